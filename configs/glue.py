"""GLUE: eight tasks of unlike sizes and kinds (Wang et al. 2019), on RoBERTa-base.

  mtl-jax train --config=glue --config.data.dir=DATA \\
      --config.model.weights=ROBERTA --config.compute_dtype=bfloat16 --workdir=runs/glue

For accelerators. DATA/glue holds the official folders (CoLA, SST-2, ...), ROBERTA the
checkpoint as Hugging Face has it: config.json, model.safetensors, vocab.json and
merges.txt. What training needs of memory falls with --config.grad_accumulation=4,
--config.model.roberta.remat=True and --config.run_map=sequential.

A small encoder from scratch, on the tasks that are there, on a CPU:

  mtl-jax vocabulary --data=DATA --out=VOCABULARY --size=8000
  mtl-jax train --config=glue --config.data.dir=DATA \\
      --config.data.vocabulary=VOCABULARY --config.data.tasks=cola,mrpc,rte,sst2,stsb \\
      --config.data.length=64 --config.model.roberta.width=64 \\
      --config.model.roberta.layers=2 --config.model.roberta.hidden=256 \\
      --config.learning_rates=1e-3 --config.steps=1000 --workdir=runs/small_glue

Published, RoBERTa-base on every task alone, development set: MNLI 87.6, QNLI 92.8, QQP
91.9, RTE 78.7, SST-2 94.8, MRPC 90.2 (accuracy), CoLA 63.6 (Matthews), STS-B 91.2
(fairseq's table). Assumptions: the learning rate is constant, without the warm-up and
the decay that those had; validation is held out of the training sets, as in
mtl_jax/data/glue.py; there is no dropout on attention weights. Heads are linear, as the
paper's; RoBERTa's own: --config.model.roberta.head=classification.

Every task has a batch in every step, whatever its size. The variant multi-sampled draws
one task a step by size instead (--config.smto.sampled.temperature=1).
"""

from typing import Any

from ml_collections import ConfigDict

from . import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "glue"
    config.data.tasks = ()  # cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte; empty: all
    config.data.vocabulary = ""  # folder; empty: that of model.weights
    config.data.length = 128  # tokens of an example, at most
    config.model.name = "roberta"
    config.learning_rates = (2e-5,)
    config.batch_size = 32
    config.steps = 12_000  # a pass over MNLI, 170 over RTE
    return config
