"""W6 of the benchmark: training steps of RoBERTa on eight tasks of GLUE's kinds."""

from collections.abc import Callable, Iterator
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

from . import config_files
from .ways import Way

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
"""Of the encoder: a small one, or RoBERTa-base."""
SHAPES = {"cpu": (8, 64), "gpu": (16, 128)}
"""Sequences of a task's batch, and tokens of a sequence."""
WIDTHS = (2, 2, 2, 1, 2, 3, 2, 2)
"""Of the heads, in the paper's order of tasks; 1 is STS-B, a regression."""
WAYS = {
    "summed loss": ("multi", "auto"),
    "pcgrad by the Jacobian": ("multi-pcgrad", "jacobian"),
    "pcgrad by the Gramian": ("multi-pcgrad", "gramian"),
}
"""Ours: variant and path."""

Say = Callable[[str], None]


def sizes() -> dict[str, int]:
    """Of the encoder, for this machine."""
    return SIZES["cpu" if jax.default_backend() == "cpu" else "gpu"]


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Tokens ``[T, B, L]``, the last eighth padding, and targets ``[T, B]``."""
    shape = SHAPES["cpu" if jax.default_backend() == "cpu" else "gpu"]
    rng = np.random.default_rng(0)
    x = rng.integers(4, sizes()["vocabulary"], (len(WIDTHS), *shape), np.uint16)
    x[..., -shape[1] // 8 :] = 1
    classes = np.array(WIDTHS)[:, None]
    return x, (rng.random(x.shape[:2]) * classes).astype(np.int32).astype(np.float32)


def w6(say: Say) -> Iterator[tuple[str, list[Way]]]:
    """Steps of AdamW: the summed loss, and every task's gradient of the encoder."""
    one, (x, y) = setting(), batch()
    ways = [_ours(name, one, *choice) for name, choice in WAYS.items()]
    if all(map(find_spec, ("torch", "transformers"))):
        from . import language_peers as peers

        for name in peers.WAYS:
            ways.append(Way(name, peers.step(name, sizes(), WIDTHS, x, y)))
    else:
        say("missing for W6: torch or transformers")
    yield "W6", ways


def _ours(name: str, one: Setting, variant: str, path: str) -> Way:
    config: Any = config_files.default()
    config.optimizer.name = "adamw"
    config.smto.path = path
    rows: Any = np.stack(one.data.rows["train"])
    method = variants.make(variant, config, one.tasks, [rows.shape[1]] * len(rows))
    ids: Any = np.arange(len(rows))
    seed: Any = 0
    own = take(data_pool(one), rows, ids, one.batch_axes)
    states = [init_state(one, method.method, seed, ids)]
    step = partial(train_step, one, method.method)
    rate: Any = np.float32(1e-5)
    program = jax.jit(step, donate_argnums=0).lower(states[0], own, rate).compile()

    def run() -> None:
        states[0], losses = program(states[0], own, rate)
        jax.block_until_ready(losses)

    return Way(name, run, megabytes=memory.temporaries(program) / 1e6)


def setting() -> Setting:
    """The tasks, each with its own batch as the whole of its data, without dropout."""
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
