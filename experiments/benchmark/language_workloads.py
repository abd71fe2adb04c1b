"""W6 of the benchmark: training steps of RoBERTa on eight tasks of GLUE's kinds."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from mtl_jax import models
from mtl_jax.data import Dataset
from mtl_jax.devices import memory
from mtl_jax.training import variants
from mtl_jax.training.setting import Setting, from_dataset
from mtl_jax.training.step import data_pool, init_state, take, train_step

from .. import config_files
from .ways import Say, Way

SIZES = {
    "cpu": {"vocabulary": 8_000, "width": 256, "layers": 4, "heads": 4, "hidden": 1024},
    "gpu": {
        "vocabulary": 50_265,
        "width": 768,
        "layers": 12,
        "heads": 12,
        "hidden": 3072,
    },
}
"""Sizes of the encoder: a small one, or RoBERTa-base."""
SHAPES = {"cpu": (8, 64), "gpu": (16, 128)}
"""Sequences of a task's batch, and tokens of a sequence."""
WIDTHS = (2, 2, 2, 1, 2, 3, 2, 2)
"""Outputs of the heads, in the paper's order of tasks; 1 is STS-B, a regression."""
WAYS = {
    "summed loss": ("multi", "auto"),
    "pcgrad by the Jacobian": ("multi-pcgrad", "jacobian"),
    "pcgrad by the Gramian": ("multi-pcgrad", "gramian"),
}
"""Ours: variant and path."""


def sizes() -> dict[str, int]:
    """Return the sizes of the encoder, for this machine."""
    return SIZES["cpu" if jax.default_backend() == "cpu" else "gpu"]


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Draw tokens ``[T, B, L]``, the last eighth padding, and targets ``[T, B]``."""
    shape = SHAPES["cpu" if jax.default_backend() == "cpu" else "gpu"]
    rng = np.random.default_rng(0)
    x = rng.integers(4, sizes()["vocabulary"], (len(WIDTHS), *shape), np.uint16)
    x[..., -shape[1] // 8 :] = 1
    classes = np.array(WIDTHS)[:, None]
    return x, (rng.random(x.shape[:2]) * classes).astype(np.int32).astype(np.float32)


def w6(say: Say, peers: bool) -> Iterator[tuple[str, list[Way]]]:
    """Time steps of AdamW: on the summed loss, and with every task's gradient of it."""
    tasks, (x, y) = setting(), batch()
    ways = [_ours(name, tasks, *choice) for name, choice in WAYS.items()]
    if peers and find_spec("transformers"):
        from . import language_peers

        for name in language_peers.WAYS:
            ways.append(Way(name, language_peers.step(name, sizes(), WIDTHS, x, y)))
    elif peers:
        say("missing for W6: transformers")
    yield "W6", ways


def _ours(name: str, tasks: Setting, variant: str, path: str) -> Way:
    config: Any = config_files.default()
    config.optimizer.name = "adamw"
    config.smto.path = path
    rows: Any = np.stack(tasks.data.rows["train"])
    method = variants.make(variant, config, tasks.tasks, [rows.shape[1]] * len(rows))
    ids: Any = np.arange(len(rows))
    seed: Any = 0
    inputs = take(tasks, data_pool(tasks), rows, ids)
    states = [init_state(tasks, method.method, seed, ids)]
    step = partial(train_step, tasks, method.method)
    rate: Any = np.float32(1e-5)
    program = jax.jit(step, donate_argnums=0).lower(states[0], inputs, rate).compile()

    def run() -> None:
        states[0], losses = program(states[0], inputs, rate)
        jax.block_until_ready(losses)

    return Way(name, run, megabytes=memory.temporaries(program) / 1e6)


def setting() -> Setting:
    """Make the tasks; each has a batch as the whole of its data, and no dropout."""
    x, y = batch()
    rows = np.arange(y.size, dtype=np.int32).reshape(y.shape)
    dataset = Dataset(
        tasks=tuple(f"task_{t}" for t in range(len(WIDTHS))),
        x=x.reshape(-1, x.shape[-1]),
        y=y.ravel(),
        rows={"train": tuple(rows)},
        objectives=tuple("gaussian" if w == 1 else "softmax" for w in WIDTHS),
        widths=WIDTHS,
        provenance={},
    )
    options: Any = sizes()
    return from_dataset(
        "language", dataset, models.make("roberta", dropout=0.0, **options)
    )
