"""GLUE as text-to-text: one output layer over label words, shared by all tasks.

  mtl-jax train --config=glue_text --config.data.dir=DATA \\
      --config.model.weights=ROBERTA --config.compute_dtype=bfloat16 \\
      --workdir=runs/glue_text
  mtl-jax report --workdir=runs/glue,runs/glue_text --out=runs/both

The second command compares conflict and transfer with those of configs/glue.py, where
every task has a head of its own, as Mueller, Dredze & Andrews (2022, "Do Text-to-Text
Multi-Task Learners Suffer from Task Conflict?") do. The task is said in the input,
"rte sentence1: ... sentence2: ...", and the answer is a word, all as in T5 (Raffel et
al. 2020); STS-B's answers are numbers in steps of 0.2. Assumption: an encoder that
picks one of 38 words stands for their encoder and decoder. All else is as in
configs/glue.py.
"""

from typing import Any

from ml_collections import ConfigDict

from . import glue


def get_config() -> ConfigDict:
    config: Any = glue.get_config()
    config.setting = "glue_text"
    return config
