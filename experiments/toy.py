"""Solve the two-task toy problem of CAGrad and Nash-MTL, by every multi-task optimizer.

  mtl-jax toy --out=runs/toy
  mtl-jax toy --out=runs/toy --methods=sum,mgda,cagrad --steps=10000

Two parameters, and two losses whose valleys end on one Pareto front. Draws trajectories
in the plane (OUT/toy.png, .svg) and in the losses (OUT/toy_losses.png, .svg), and says
which got to the front. Four minutes on two cores; needs matplotlib (extra ``toy``).

Followed is the code behind the papers' figures. CAGrad (Liu et al., NeurIPS 2021,
toy.py): the losses. Nash-MTL (Navon et al., ICML 2022, experiments/toy): the first of
them times 0.1 (``--scale=1`` for CAGrad's problem), the five starts, and Adam at 1e-3.
FAMO (Liu et al., NeurIPS 2023, experiments/toy): 50k steps (Nash-MTL 35k, CAGrad 100k).
All have ``+ tanh(-theta_2)`` in the second loss, so that the two mirror each other.

The losses fall to -20, and some methods divide by them or take logarithms. So, as FAMO
is in its toy, all methods are told the losses minus -21 (the first: times its scale);
gradients stay the same. Options are the defaults, but for no weight decay of FAMO, as
in its toy, and an epoch of 100 steps. Left out are graddrop_rep, rotograd and repmtl,
for there is no shared representation, palora, for no trunk is told a preference, and
fixed, whose weights may be any.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import lax
from rich import box
from rich.console import Console
from rich.table import Table

from mtl_jax import smto
from mtl_jax.options import name_list
from mtl_jax.smto import strategies
from mtl_jax.types import ONE_INPUT, Array, Batch, InputError, ModelState, Params

from . import entry

OUT = flags.DEFINE_string("out", None, "Folder of the figures.")
METHODS = flags.DEFINE_list("methods", None, "Names; all if unset.")
STEPS = flags.DEFINE_integer("steps", 50_000, "Of Adam, from every start.")
SCALE = flags.DEFINE_float("scale", 0.1, "Factor of the first loss.")

STARTS = np.array([[-8.5, 7.5], [0, 0], [9, 9], [-7.5, -0.5], [9, -1]], np.float32)
POINTS = 250
"""Kept of a trajectory, beside its start."""
RATE = 1e-3
LOWEST = -21.0
"""Below both losses."""
TOLERANCE = 0.002
"""Distance to the front, in units of its extent in each loss, that counts as on it."""
LEFT_OUT = {
    "graddrop_rep": "there is no shared representation",
    "rotograd": "there is no shared representation",
    "repmtl": "there is no shared representation",
    "fixed": "its weights may be any",
    "palora": "there is no trunk that is told a preference",
}
CHOSEN = {"famo": {"weight_decay": 0.0}}
EPOCH = 100
TASKS = np.eye(2, dtype=np.float32)


class Trajectories(NamedTuple):
    """Trajectories of a method from ``S`` starts."""

    points: Array
    """``[S, P + 1, 2]``, from the start to the end."""
    norm: Array
    """Length of the last direction ``[S]``."""
    residual: Array
    """The largest of the solver ``[S]``."""


def losses(theta: Array, scale: float = 1.0) -> Array:
    """Compute the two losses ``[..., 2]`` at points ``[..., 2]``.

    >>> print(np.asarray(losses(jnp.array([0.0, -8.0]))).round(2))
    [-15.09 -15.09]
    """
    x, y = theta[..., 0], theta[..., 1]

    def crack(inside: Array) -> Array:
        return jnp.log(jnp.maximum(jnp.abs(inside), 5e-6)) + 6

    def bowl(centre: float) -> Array:
        return ((x - centre) ** 2 + 0.1 * (y + 8) ** 2) / 10 - 20

    def rising(side: Array) -> Array:
        tanh = jnp.tanh(side / 2)
        return jnp.where(tanh >= 0, tanh, 0)  # has a slope at 0, where a start lies

    above, below, bend = rising(y), rising(-y), jnp.tanh(y)
    first = above * crack(0.5 * (-x - 7) + bend) + below * bowl(7)
    second = above * crack(0.5 * (-x + 3) - bend + 2) + below * bowl(-7)
    return jnp.stack([scale * first, second], axis=-1)


def front(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Find points ``[N, 2]`` of the Pareto front, by first loss, and their losses.

    No point of a grid on all that is shown, and none of a finer one around those that
    it left, is better than one of them.
    """
    low, high = np.full(2, -11.0), np.full(2, 11.0)
    points = values = np.zeros((0, 2))
    for size in ((801, 801), (20_001, 51)):
        axes = map(np.linspace, low, high, size)
        points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        values = np.asarray(jax.jit(losses)(points, scale), np.float64)
        kept = undominated(values)
        points, values = points[kept], values[kept]
        margin = (high - low) / 800
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    scaled = values / np.ptp(values, axis=0)
    pieces = np.diff(scaled, axis=0, prepend=scaled[:1])
    length = np.cumsum(np.linalg.norm(pieces, axis=1))
    some = np.unique(np.searchsorted(length, np.linspace(0, length[-1], 2001)))
    return points[some], values[some]


def undominated(values: np.ndarray) -> np.ndarray:
    """Find rows ``[N]`` of ``[M, 2]`` that no other row dominates, by first loss."""
    order = np.lexsort((values[:, 1], values[:, 0]))
    second = values[order, 1]
    best = np.minimum.accumulate(np.concatenate([[np.inf], second[:-1]]))
    return order[second < best]


def make(name: str) -> smto.Method:
    """Make a method with the options of the toy.

    Raises:
      InputError: unknown method, or one that is left out.
    """
    if name in LEFT_OUT:
        raise InputError(f"{name} is left out of the toy problem: {LEFT_OUT[name]}.")
    known = smto.options(name)
    data = {"steps_per_epoch": EPOCH, "sizes": (1, 1)}
    options = {option: data[option] for option in data.keys() & known.keys()}
    return smto.make(name, **options, **CHOSEN.get(name, {}))


def strategy(method: Any) -> strategies.Strategy:
    """Return the strategy by which a method comes to its direction."""
    if isinstance(method, smto.Perturbation):
        return strategies.by_perturbation(method)
    return strategies.by_jacobian(method)


def tasks_at(theta: Array, scale: float) -> strategies.Tasks:
    """Pose the problem as two tasks whose heads have no parameters."""
    lowest = jnp.array([scale * LOWEST, LOWEST])
    return strategies.Tasks(
        represent=lambda shared, state, _: (shared, state),
        head_loss=lambda _, state, z, task: (
            jnp.dot(task, losses(z, scale) - lowest),
            state,
        ),
        params=Params(theta, jnp.zeros((2, 0))),
        model_state=ModelState((), ()),
        batch=Batch((), TASKS),
        axes=ONE_INPUT,
        task_map=jax.vmap,
    )


def descend(
    strategy: strategies.Strategy,
    scale: float,
    blocks: int,
    stride: int,
    start: Array,
    key: Array,
) -> Trajectories:
    """Descend by a method from a start; keep a point in so many steps."""
    adam = optax.adam(RATE)

    def step(number: Array, carry: tuple) -> tuple:
        theta, opt, state, residual = carry
        tasks = tasks_at(theta, scale)
        outcome = strategy.step(tasks, state, jax.random.fold_in(key, number))
        updates, opt = adam.update(outcome.grads.shared, opt)
        theta, state = theta + updates, outcome.smto
        if strategy.after_update is not None:
            state = strategy.after_update(tasks_at(theta, scale).losses(), state)
        return theta, opt, state, jnp.maximum(residual, state.residual)

    def block(carry: tuple, number: Array) -> tuple[tuple, Array]:
        first = number * stride
        carry = lax.fori_loop(first, first + stride, step, carry)
        return carry, carry[0]

    state = strategy.init(tasks_at(start, scale).params, 2)
    carry = (start, adam.init(start), state, jnp.zeros(()))
    (_, _, state, residual), points = lax.scan(block, carry, jnp.arange(blocks))
    points = jnp.concatenate([start[None], points])
    return Trajectories(points, state.norm, residual)


def program(names: Sequence[str], scale: float, steps: int) -> Any:
    """Make ``(starts [S, 2], keys [S]) -> Trajectories`` by method: all in one.

    Steps fill whole blocks, a point kept of each: up to 1 in `POINTS` more are done.
    """
    stride = math.ceil(steps / POINTS)
    blocks = math.ceil(steps / stride)
    follow = {
        name: jax.vmap(partial(descend, strategy(make(name)), scale, blocks, stride))
        for name in names
    }
    return jax.jit(lambda starts, keys: {n: f(starts, keys) for n, f in follow.items()})


def arrived(ends: np.ndarray, scale: float, front_losses: np.ndarray) -> np.ndarray:
    """Tell which points ``[S, 2]`` lie on the front, within `TOLERANCE`."""
    extent = np.ptp(front_losses, axis=0)
    values = np.asarray(losses(jnp.asarray(ends), scale), np.float64)
    gaps = (values[:, None] - front_losses[None]) / extent
    return np.linalg.norm(gaps, axis=-1).min(axis=1) < TOLERANCE


def table(trajectories: dict[str, Trajectories], there: dict[str, np.ndarray]) -> Table:
    """Tabulate a row a method: arrivals, where on the front, how the method ended."""
    made = Table(
        title=f"on the front: within {TOLERANCE:.1%} of its extent in the losses",
        box=box.SIMPLE_HEAD,
    )
    made.add_column("method", no_wrap=True)
    for column in ("on the\nfront", "theta_1\nthere", "largest |d|\nat the end"):
        made.add_column(column, justify="right")
    made.add_column("largest\nresidual", justify="right")
    for name, path in trajectories.items():
        places = path.points[there[name], -1, 0]
        made.add_row(
            name,
            f"{len(places)}/{len(STARTS)}",
            f"{places.min():.2f} to {places.max():.2f}" if len(places) else "",
            f"{path.norm.max():.1e}",
            f"{path.residual.max():.1e}",
        )
    return made


def toy() -> None:
    """Run the methods of the flags; write the figures and print the table."""
    known = [name for name in smto.SMTOS if name not in LEFT_OUT]
    names, steps, scale = METHODS.value or known, STEPS.value, SCALE.value
    if not OUT.value:
        raise InputError("--out is needed, see --help.")
    if steps < 1 or not 0 < scale < math.inf:
        raise InputError(
            f"--steps={steps} and --scale={scale} must be above 0, and finite."
        )
    names = name_list("--methods", names)
    try:
        from . import toy_figures as pictures
    except ImportError as error:
        raise InputError(
            "figures of the toy problem need matplotlib: pip install 'mtl_jax[toy]'."
        ) from error
    follow = program(names, scale, steps)
    out = Path(OUT.value)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out} cannot be made: {error.strerror}.") from error

    keys = jax.random.split(jax.random.key(0), len(STARTS))
    began = time.perf_counter()
    compiled = follow.lower(STARTS, keys).compile()
    ready = time.perf_counter()
    print(f"compiled {len(names)} methods in {ready - began:.0f} s", flush=True)
    unordered = jax.device_get(compiled(STARTS, keys))
    trajectories = {name: unordered[name] for name in names}
    print(f"ran {steps} steps in {time.perf_counter() - ready:.0f} s", flush=True)

    best, best_losses = front(scale)
    there = {
        n: arrived(path.points[:, -1], scale, best_losses)
        for n, path in trajectories.items()
    }
    problem = pictures.Problem(
        losses=lambda points: np.asarray(losses(jnp.asarray(points), scale)),
        front=best[::10],
        steps=steps,
    )
    paths = {
        n: pictures.Paths(path.points, there[n]) for n, path in trajectories.items()
    }
    pictures.write(paths, problem, out)
    Console(emoji=False).print(table(trajectories, there))
    print(f"written to {out}")


if __name__ == "__main__":
    entry.main(toy, str(__doc__))
