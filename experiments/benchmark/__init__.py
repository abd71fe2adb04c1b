"""Measure training steps against what users would otherwise run, interleaved.

  mtl-jax benchmark --workloads=W1,W2,W3,W4,W5,solvers --rounds=7
  mtl-jax benchmark --workloads=W2 --methods=mgda,upgrad --tasks=3,10,40

W1: a step of 3 tasks with own 28x28 batches of 128, LeNet, summed loss, Adam.
W2: W1 with per-task gradients and a multi-task optimizer, for every one of `--methods`
    and 3 tasks, or as many as `--tasks` says; more than 10 have batches of 32.
W3: the Gramian of 40 binary tasks' trunk gradients on one 64x64x3 batch of 64, ResNet
    of widths 16-32-64-128 with a stem of stride 2; time and memory of temporaries.
W4: factors of one W1 task on 2,048 examples: (a) one-step sharpness in batches of 128,
    (b) 20 Hessian-vector products, (c) Fisher trace, (d) cosines of 16 batch gradients
    and m-coherence; the values found are printed beside those of the peers.
W5: 3 seeds x 4 learning rates x (3 single-task runs + 1 multi-task run) of W1, 200
    steps, compilation included, per block (all four runs of one seed and rate).
W6: a step of AdamW of a RoBERTa encoder on 8 tasks of GLUE's kinds, 8 sequences of 64
    tokens each (4 layers of 256; on a GPU RoBERTa-base, 16 of 128): the summed loss,
    and the gradients of all tasks by both paths; peers need `transformers`.
solvers: the solvers of mgda, cagrad, nash_mtl, fairgrad, upgrad and dualproj alone, on
    Gramians of 3, 10, 40 and 64 tasks: time and residual (see `solver_workloads`);
    `--methods` and `--tasks` choose among them.

Peers come with the extra `bench`; those not installed are named as missing. Machines
drift, so only ratios within one table mean something. Times are per step, in ms.
"""

from .command import benchmark

__all__ = ["benchmark"]
