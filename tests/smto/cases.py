"""Multi-task optimizers under test, each compiled once for a stack of problems."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import smto

STACK = 32
"""Problems in one call of a program: more take several calls, fewer are padded."""
SIZE = 7
"""Coordinates that gradients are padded to, so that programs are shared."""
FAST: Any = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
jit = functools.partial(jax.jit, compiler_options=FAST)
"""Options that compile fast: there is nothing to optimise in problems of this size."""
WEIGHTS = (0.5, 2.0, 1.25)
SIZES = (600, 300, 100)
OPTIONS = {
    "dwa": {"steps_per_epoch": 1},
    "igb": {"steps_per_epoch": 1},
    "stch": {"steps_per_epoch": 1, "warmup_epochs": 0},
    # Quickly compiled.
    "cr_mogm": {"inner": smto.make("aligned_mtl")},
    "reweighted": {"inner": smto.make("aligned_mtl")},
    # Tasks in turn are not alike, and eps is an absolute number.
    "momentum_config": {"tasks_per_step": 0, "eps": 1e-30},
    "pcd": {"eps": 0.0},
}


def make(name: str, num_tasks: int = 3, **chosen: Any) -> Any:
    """Make a method, with the options that it cannot do without."""
    options: dict[str, Any] = OPTIONS.get(name, {})
    if name == "fixed":
        options = {"weights": WEIGHTS[:num_tasks]}
    if name == "sampled":
        options = {"sizes": SIZES[:num_tasks]}
    return smto.make(name, **{**options, **chosen})


LIFTABLE = (
    smto.LossWeighting | smto.GramianWeighting | smto.CrossWeighting | smto.Aggregator
)
LIFTED = [name for name in smto.SMTOS if isinstance(make(name), LIFTABLE)]
REDUCED = [name for name in LIFTED if "reduction" in smto.options(name)]


class Outcome(NamedTuple):
    """Results of ``S`` updates of ``N`` problems, as NumPy arrays ``[S, N, ...]``."""

    direction: Any
    state: Any


@functools.cache
def program(name: str, num_tasks: int, nonfinite: str, **chosen: Any) -> Any:
    """Make the lifted method, and its jitted update of `STACK` problems.

    A `run` raises where it is traced more than once.
    """
    optimizer: Any = smto.lift(make(name, num_tasks, **chosen), num_tasks, nonfinite)

    @chex.assert_max_traces(n=1)
    def update(grads, state, losses, key):
        return optimizer.update(grads, state, losses=losses, key=key)

    return optimizer, jit(jax.vmap(update))


def run(
    name: str,
    grads: Any,
    losses: Any = None,
    seed: Any = 0,
    nonfinite: Any = "skip",
    **chosen: Any,
) -> Outcome:
    """Update after update of problems side by side.

    Args:
      name: of the method.
      grads: ``[S, N, T, P]``: of ``S`` updates of ``N`` problems, padded to `SIZE`.
      losses: ``[S, N, T]``, or 1.
      seed: every problem draws its own keys from it.
      nonfinite: of `smto.lift`.
      **chosen: options of the method.
    """
    grads = padded(grads)
    losses = np.ones(grads.shape[:3]) if losses is None else losses
    losses = np.broadcast_to(np.asarray(losses, np.float32), grads.shape[:3])
    steps, count, num_tasks, size = grads.shape
    optimizer, update = program(name, num_tasks, nonfinite, **chosen)
    calls = -(-count // STACK)
    order = np.resize(np.arange(count), calls * STACK)
    start = jax.tree.map(
        lambda leaf: np.stack([leaf] * STACK), optimizer.init(jnp.zeros(size))
    )
    chunks = []
    chex.clear_trace_counter()  # it counts by the place in the source
    for call, chunk in enumerate(order.reshape(calls, STACK)):
        state, updates = start, []
        for step in range(steps):
            keys = keys_of(seed, call, step)
            direction, state = update(
                grads[step][chunk], state, losses[step][chunk], keys
            )
            updates.append(jax.device_get((direction, state)))
        chunks.append(jax.tree.map(lambda *leaves: np.stack(leaves), *updates))
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, 1)[:, :count], *chunks)
    return Outcome(*joined)


def padded(grads: Any) -> np.ndarray:
    """Pad gradients ``[..., P]`` with zeros behind: ``[..., SIZE]``."""
    grads = np.asarray(grads, np.float32)
    width = [(0, 0)] * (grads.ndim - 1) + [(0, SIZE - grads.shape[-1])]
    return np.pad(grads, width)


@functools.cache
def keys_of(seed: int, call: int, step: int) -> Any:
    """Make the keys of the problems of one call."""
    words = np.random.default_rng((seed, call, step)).integers(2**32, size=(STACK, 2))
    return jax.random.wrap_key_data(jnp.asarray(words, jnp.uint32))


def once(name: str, grads: Any, losses: Any = None, **chosen: Any) -> Outcome:
    """Update problems ``[N, T, P]`` with losses ``[N, T]`` once: ``[N, ...]``."""
    losses = None if losses is None else np.asarray(losses)[None]
    outcome = run(name, np.asarray(grads)[None], losses, **chosen)
    return jax.tree.map(lambda leaf: leaf[0], outcome)
