"""Workload `solvers`: the problems of the size of the number of tasks, alone.

Eight Jacobians a size K: Gaussian rows in 2 K dimensions, so that half of all pairs
conflict, of lengths drawn log-uniformly over one decade, and over six, 1e-3 to 1e3. All
solvers get the Gramian in float32 (TorchJD's Nash-MTL takes the Jacobian only) and
start anew every time. Ways that take more than 10 s for the eight are timed once.

Residuals are relative errors of the conditions of optimality, 0 at the solution and
nowhere else, so that no solver has to be the reference. They are taken in float64 of
the solution as it was returned; infinite where there was none. With the norms ``n_i =
|g_i|`` and the direction ``d = J' w`` of the weights ``w``:

- mgda: ``max_i |d| / n_i - cos(g_i, d)``.
- cagrad (c = 0.5): ``max_i (F - <g_i, d>) / (n_i |g_0|)`` with ``d = g_0 + c |g_0|
  g_w / |g_w|`` and the value ``F = <g_w, g_0> + c |g_0| |g_w|``: the gap between the
  problem and its dual.
- nash_mtl (alpha = 1), fairgrad (alpha = 2): ``max_i |w_i^(1 / alpha) <g_i, d> - 1|``,
  before any clipping.
- dualproj: ``max_i |min(y_i, cos(g_i, d))|`` with ``y_i = (w_i - 1 / K) n_i / |d|``;
  upgrad: the largest of the same for every task's own projection.
"""
# pyright: reportMissingImports=false

import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.smto.solvers import dual_cone, fairness, simplex
from mtl_jax.smto.solvers.rounding import settle
from mtl_jax.smto.solvers.solution import Solution, UnitGramian

from .tools import TOOLS, missing
from .ways import Say, Way, interleave

HEADER = (
    *("solver", "K", "decades", "ms: mtl_jax", "TorchJD", "LibMTL's way"),
    *("residual: mtl_jax", "TorchJD", "LibMTL's way"),
)
"""Times: medians per problem. Residuals: the median (and the worst) of all problems."""
PROBLEMS, DECADES, LONG = 8, (1, 6), 10.0
C, ALPHA = 0.5, 2.0

Solve = Callable[[Any, Any], Any]
"""``solve(jacobian [K, P], gramian [K, K]) -> solution``, all in float32."""
Residual = Callable[[np.ndarray, np.ndarray], float]
"""``residual(gramian, solution) -> error``, in float64."""


class Peer(NamedTuple):
    """A peer's solver."""

    make: Callable[[int], Solve]
    """For a number of tasks."""
    needs: tuple[str, ...] = ()
    """Modules it imports."""


class Problem(NamedTuple):
    """A problem that a method solves."""

    ours: Callable[[jax.Array], jax.Array]
    """Gramian to weights ``[K]``, or to a row for every task ``[K, K]``."""
    residual: Residual
    peers: dict[str, Peer]
    """By names of `TOOLS`."""


def rows(
    say: Say, peers: bool, methods: list[str], sizes: list[int], rounds: int
) -> list[tuple[str, ...]]:
    """Measure those methods that have a solver, for numbers of tasks: table rows."""
    return [
        _row(say, peers, method, tasks, decades, rounds)
        for method in methods
        if method in SOLVERS
        for tasks in sizes
        for decades in DECADES
    ]


def _row(
    say: Say, peers: bool, method: str, tasks: int, decades: int, rounds: int
) -> tuple[str, ...]:
    problem = SOLVERS[method]
    label = f"solvers {method} K={tasks}, {decades} decades"
    rng = np.random.default_rng(tasks)
    jacobians = [_jacobian(rng, tasks, decades) for _ in range(PROBLEMS)]
    pairs = [(jacobian, jacobian @ jacobian.T) for jacobian in jacobians]
    ways, times, residuals = [], {}, {}
    for name, solve, put in _solvers(say, peers, label, problem, tasks):
        inputs = [tuple(put(x.astype(np.float32)) for x in pair) for pair in pairs]
        run = partial(_attempt, solve, inputs)
        began = time.perf_counter()
        solutions = run()
        seconds = time.perf_counter() - began
        if errors := [x for x in solutions if isinstance(x, Exception)]:
            text = " ".join(str(errors[0]).split())
            say(f"{label}, {name}: {len(errors)} of {PROBLEMS} fail: {text}")
        residuals[name] = [
            _error(problem.residual, gram, solution)
            for (_, gram), solution in zip(pairs, solutions, strict=True)
        ]
        if seconds > LONG:
            times[name] = [1e3 * seconds / PROBLEMS]
        else:
            ways.append(Way(name, run, PROBLEMS))
    times |= interleave(ways, rounds)
    say(f"{label}: measured {', '.join(times)}")
    names = ("mtl_jax", "torchjd", "libmtl")
    return (
        *(method, str(tasks), str(decades)),
        *(f"{median(times[n]):.3f}" if n in times else "-" for n in names),
        *(_spread(residuals[n]) if n in times else "-" for n in names),
    )


def _jacobian(rng: np.random.Generator, tasks: int, decades: int) -> np.ndarray:
    grads = rng.normal(size=(tasks, 2 * tasks))
    lengths = 10 ** (decades * rng.uniform(-0.5, 0.5, (tasks, 1)))
    return grads / np.linalg.norm(grads, axis=1, keepdims=True) * lengths


def _solvers(
    say: Say, peers: bool, label: str, problem: Problem, tasks: int
) -> Iterator[tuple[str, Solve, Callable[[np.ndarray], Any]]]:
    """Ways: name, solver, and what makes its inputs."""
    program = jax.jit(problem.ours)
    yield "mtl_jax", lambda _, gram: program(gram).block_until_ready(), jnp.asarray
    if not peers:
        return
    import torch

    for name, peer in problem.peers.items():
        if lacks := missing(TOOLS[name], peer.needs):
            say(f"missing for {label}, {name}: {', '.join(lacks)}")
        else:
            yield name, peer.make(tasks), torch.from_numpy


def _attempt(solve: Solve, inputs: list[tuple[Any, ...]]) -> list[Any]:
    """Solutions of all problems, or the errors that were raised instead."""
    solutions = []
    for jacobian, gram in inputs:
        try:
            solutions.append(solve(jacobian, gram))
        except Exception as error:
            solutions.append(error)
    return solutions


def _error(residual: Residual, gram: np.ndarray, solution: Any) -> float:
    if isinstance(solution, Exception):
        return np.inf
    with np.errstate(all="ignore"):
        error = residual(gram, np.asarray(solution, np.float64))
    return np.inf if np.isnan(error) else max(error, 0.0)


def _spread(residuals: list[float]) -> str:
    return f"{median(residuals):.0e} ({max(residuals):.0e})"


def _of_simplex(gram: np.ndarray, weights: np.ndarray) -> float:
    slope = gram @ weights
    squared = weights @ slope
    return np.max((squared - slope) / np.sqrt(np.diagonal(gram) * squared))


def _of_cone(gram: np.ndarray, weights: np.ndarray) -> float:
    weights = weights / weights.sum()  # it makes no difference to the direction
    to_mean, to_weights = gram.mean(axis=1), gram @ weights
    mean = np.sqrt(to_mean.mean())
    slope = to_mean + C * mean / np.sqrt(weights @ to_weights) * to_weights
    return np.max((weights @ slope - slope) / np.sqrt(np.diagonal(gram))) / mean


def _of_fairness(alpha: float, gram: np.ndarray, weights: np.ndarray) -> float:
    return np.max(np.abs(weights ** (1 / alpha) * (gram @ weights) - 1))


def _of_projections(gram: np.ndarray, weights: np.ndarray) -> float:
    """Measure projections of all gradients ``[K, K]``, or of their mean ``[K]``."""
    tasks, norms = len(gram), np.sqrt(np.diagonal(gram))
    lower = (np.eye(tasks) if weights.ndim == 2 else np.ones(tasks)) / tasks
    inner = weights @ gram
    length = np.sqrt(np.sum(inner * weights, axis=-1, keepdims=True))
    added = (weights - lower) * norms / length
    return np.max(np.abs(np.minimum(added, inner / norms / length)))


class _Projections(NamedTuple):
    """Projections of all tasks ``[T, T]``, and what `settle` looks at: their sum."""

    weights: jax.Array
    residual: jax.Array
    rows: jax.Array


def _project_all(gram: jax.Array) -> jax.Array:
    def solve(problem: UnitGramian) -> _Projections:
        preferences = jnp.eye(len(gram)) / len(gram)
        rows = jax.vmap(dual_cone.project, (None, 0))(problem, preferences)
        return _Projections(rows.weights.sum(axis=0), rows.residual.max(), rows.weights)

    return settle(solve, gram).rows


def _project_mean(problem: UnitGramian) -> Solution:
    tasks = len(problem.norms)
    return dual_cone.project(problem, jnp.full(tasks, 1 / tasks))


def _settled(
    solve: Callable[[UnitGramian], Solution],
) -> Callable[[jax.Array], jax.Array]:
    """Solve as the methods do: with what rounding leaves open."""
    return lambda gram: settle(solve, gram).weights


def _of_gramian(make: Callable[[], Any]) -> Callable[[int], Solve]:
    """A peer's solver that has no state and looks at nothing else."""

    def made(tasks: int) -> Solve:
        del tasks
        weigh = make()
        return lambda _, gram: weigh(gram)

    return made


def _jd() -> Any:
    from torchjd import aggregation

    return aggregation


def _libmtl() -> Any:
    from . import libmtl_solvers

    return libmtl_solvers


def _jd_cagrad(tasks: int) -> Solve:
    """Weights on the simplex: TorchJD's are those of the whole direction."""
    weighting = _jd().CAGradWeighting(c=C)

    def solve(_: Any, gram: Any) -> Any:
        correction = weighting(gram).double() - 1 / tasks
        if correction.sum() <= 0:
            raise ValueError("the direction is 0")
        return correction / correction.sum()

    return solve


def _jd_nash_mtl(tasks: int) -> Solve:
    weighting = _jd().NashMTL(tasks, max_norm=0.0).weighting

    def solve(jacobian: Any, _: Any) -> Any:
        weighting.prvs_alpha = np.ones(tasks, np.float32)
        return weighting(jacobian)

    return solve


def _jd_upgrad(tasks: int) -> Solve:
    import torch

    projector, rows = _jd().UPGradWeighting().projector, torch.eye(tasks) / tasks
    return lambda _, gram: projector(rows, gram)


def _libmtl_nash_mtl(tasks: int) -> Solve:
    solve, ones = _libmtl().nash_mtl(tasks), np.ones(tasks, np.float32)
    return lambda _, gram: solve(gram, ones)


_ECOS, _QUADPROG = ("cvxpy", "ecos"), ("qpsolvers", "quadprog")
SOLVERS = {
    "mgda": Problem(
        _settled(simplex.min_norm),
        _of_simplex,
        {
            "torchjd": Peer(_of_gramian(lambda: _jd().MGDAWeighting())),
            "libmtl": Peer(_of_gramian(lambda: _libmtl().mgda)),
        },
    ),
    "cagrad": Problem(
        lambda gram: simplex.min_cone(gram, C).weights,
        _of_cone,
        {
            "torchjd": Peer(_jd_cagrad, ("cvxpy", "clarabel")),
            "libmtl": Peer(_of_gramian(lambda: _libmtl().cagrad), ("scipy",)),
        },
    ),
    "nash_mtl": Problem(
        _settled(lambda problem: fairness.balance(problem, 1.0)),
        partial(_of_fairness, 1.0),
        {"torchjd": Peer(_jd_nash_mtl, _ECOS), "libmtl": Peer(_libmtl_nash_mtl, _ECOS)},
    ),
    "fairgrad": Problem(
        _settled(lambda problem: fairness.balance(problem, ALPHA)),
        partial(_of_fairness, ALPHA),
        {
            "torchjd": Peer(_of_gramian(lambda: _jd().FairGradWeighting(ALPHA))),
            "libmtl": Peer(_of_gramian(lambda: _libmtl().fairgrad)),
        },
    ),
    "upgrad": Problem(
        _project_all,
        _of_projections,
        {
            "torchjd": Peer(_jd_upgrad, _QUADPROG),
            "libmtl": Peer(_of_gramian(lambda: _libmtl().upgrad), _QUADPROG),
        },
    ),
    "dualproj": Problem(
        _settled(_project_mean),
        _of_projections,
        {"torchjd": Peer(_of_gramian(lambda: _jd().DualProjWeighting()), _QUADPROG)},
    ),
}
