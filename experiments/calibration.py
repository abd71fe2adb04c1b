"""Simulate studies of which the truth is known, and count how often the analysis errs.

    python -m experiments.calibration --studies=400

prints the table of docs/statistics.md. Nothing is trained: differences of seeds, or
whole trajectories, are drawn, and go through the functions that judge a real study.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from absl import app, flags

from mtl_jax.analysis import gap_curve
from mtl_jax.analysis.claims import (
    MARGIN_RHO,
    MARGINS,
    explanation,
    harm,
    persistence,
    remedy,
)
from mtl_jax.analysis.claims.paired import Paired, gaps
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.moderation import moderated
from mtl_jax.analysis.simultaneous import bands

STUDIES = flags.DEFINE_integer("studies", 200, "Studies of every row.")

Row = tuple[str, str, float]
"""Name of the studies, name of what is counted, and its share of them (or percent)."""

SETTINGS = ["s"]


def draw(
    rng: np.random.Generator,
    seeds: int,
    sizes: np.ndarray,
    *,
    shared: float = 0.0,
    correlation: float = 0.0,
) -> np.ndarray:
    """Draw differences of paired runs ``[T, n]`` with standard deviations ``[T]``.

    Args:
      rng: of the noise.
      seeds: n.
      sizes: standard deviation of every unit.
      shared: share of the variance that all units have in common, seed by seed.
      correlation: of the two runs of a seed.
    """
    units = len(sizes)
    st, mt = rng.normal(size=(2, units, seeds))
    mt = correlation * st + (1 - correlation**2) ** 0.5 * mt
    apart = (mt - st) / (2 - 2 * correlation) ** 0.5
    common = rng.normal(size=(1, seeds))
    return sizes[:, None] * (shared**0.5 * common + (1 - shared) ** 0.5 * apart)


def sizes(rng: np.random.Generator, units: int, spread: float) -> np.ndarray:
    """Draw standard deviations whose logs have a standard deviation of ``spread``."""
    return np.exp(spread * rng.normal(size=units))


def coverage(studies: int, seeds: Sequence[int] = (2, 3, 5, 10)) -> Iterator[Row]:
    """Count how often the interval of a task covers 0."""
    for n, units, spread, r in product(seeds, (1, 3, 8, 20), (0.0, 0.5), (0.0, 0.5)):
        rng = np.random.default_rng(0)
        held = [
            mean.low <= 0 <= mean.high
            for _ in range(-(-4 * studies // units))
            for mean in moderated(
                [*draw(rng, n, sizes(rng, units, spread), correlation=r)]
            )
        ]
        what = f"moderated t: n={n}, T={units}, s.d. spread {spread:g}, r={r:g}"
        yield what, "covers", float(np.mean(held))


def band_coverage(studies: int, seeds: Sequence[int] = (3, 5, 10)) -> Iterator[Row]:
    """Count how often the band of a task's curve covers 0 at all of 20 points."""
    x = np.linspace(0, 1, 20)
    for n, units, spread, scale in product(seeds, (1, 3, 8), (0.0, 0.5), (0.1, 0.5)):
        rng = np.random.default_rng(0)
        square = np.exp(-(((x[:, None] - x) / scale) ** 2) / 2) + 1e-9 * np.eye(20)
        root, held = np.linalg.cholesky(square), []
        for _ in range(-(-2 * studies // units)):
            curves = [
                size * (1 + x) * (rng.normal(size=(n, 20)) @ root.T)
                for size in sizes(rng, units, spread)
            ]
            held += [bool(((a <= 0) & (b >= 0)).all()) for _, a, b in bands(curves)]
        what = f"band: n={n}, T={units}, s.d. spread {spread:g}, smooth over {scale:g}"
        yield what, "covers all", float(np.mean(held))


def worth(log_loss: np.ndarray) -> np.ndarray:
    """Test loss that goes with a log training loss, without a gap."""
    return 0.35 + 0.25 * np.exp(log_loss) + 0.02 * np.minimum(log_loss, 0) ** 2


def trajectories(
    rng: np.random.Generator,
    seeds: int,
    end: float,
    *,
    planted: float = 0.0,
    noise: float = 0.0,
    oscillation: tuple[float, float] = (0.0, 0.0),
    spikes: tuple[float, float] = (0.0, 0.0),
    looks: int = 60,
    tasks: int = 1,
) -> Frame:
    """Draw records of ST and MT; MT falls faster, and its start is that of ST.

    Args:
      rng: of the noise.
      seeds: pairs of runs.
      end: last training loss.
      planted: gap, a share of ST's loss: 0 above a loss of 0.5, all of it below 0.2.
      noise: standard deviation of a run's test loss, a share of it.
      oscillation: standard deviation of the log training loss, in ST and MT.
      spikes: share of looks with a spike up, in ST and MT.
      looks: evaluations, log-spaced in steps.
      tasks: number.
    """
    steps = np.unique(np.r_[0, np.geomspace(1, 2_000, looks).round()]).astype(int)
    frames = []
    for task, seed, (side, variant) in product(
        range(tasks), range(seeds), enumerate(("single", "multi"))
    ):
        speed = 0.5 - 0.1 * side
        log_loss = np.log(2.3) + (np.log(end) - np.log(2.3)) * (steps / 2_000) ** speed
        up = rng.random(len(steps)) < spikes[side]
        log_loss = log_loss + oscillation[side] * rng.normal(size=len(steps))
        log_loss = log_loss + up * rng.exponential(1.5, size=len(steps))
        log_loss[0] = np.log(2.3)
        log_loss = np.minimum(log_loss, np.log(5.0))
        open_ = np.clip((0.5 - np.exp(log_loss)) / 0.3, 0, 1)
        factor = (1 + side * planted * open_) * (1 + noise * rng.normal())
        for split, values in (
            ("probe", np.exp(log_loss)),
            ("test", worth(log_loss) * factor),
        ):
            frame = pd.DataFrame({"step": steps, "split": split, "value": values})
            frames.append(frame.assign(variant=variant, seed=seed, task=f"t{task}"))
    df = pd.concat(frames, ignore_index=True)
    df = df.assign(setting="s", run=df["seed"], learning_rate=0.1, batch_size=32)
    return df.assign(scope="", name="loss", epoch=df["step"] / 50)


def bias(studies: int) -> Iterator[Row]:
    """Measure the mean gap where there is none, percent of ST's loss."""
    kinds: dict[str, dict[str, float]] = {
        "s.d. 0.5": {"oscillation": 0.5},
        "s.d. 1": {"oscillation": 1.0},
        "spikes 10%": {"spikes": 0.1},
        "spikes 30%": {"spikes": 0.3},
    }
    for (name, kind), side in product(kinds.items(), (0, 1)):
        rng = np.random.default_rng(0)
        options: Any = {
            key: (x, 0.0) if side == 0 else (0.0, x) for key, x in kind.items()
        }
        drawn = []
        for _ in range(-(-studies // 20)):
            df = trajectories(rng, 1, 0.01, tasks=20, **options)
            rows = gap_curve(df).query("task != ''")
            size = worth(rows["log_loss"].to_numpy()).mean()
            drawn.append(rows[["gap", "isotonic"]].mean() / size)
        local, isotonic = 100 * np.mean(drawn, axis=0)
        what = f"gap of 0, {('ST', 'MT')[side]} oscillates: {name}"
        yield what, "bias, % of ST's loss", float(local)
        yield what, "bias of the isotonic check, %", float(isotonic)


def verdicts(
    studies: int, judged: Callable[[np.random.Generator], str]
) -> dict[str, float]:
    """Count the shares of verdicts."""
    rng = np.random.default_rng(0)
    said = [judged(rng) for _ in range(studies)]
    return {name: said.count(name) / studies for name in set(said)}


def opening(studies: int) -> Iterator[Row]:
    """Count how often a gap that opens at a loss of about 1/3 is seen, and where."""
    for end, planted in product((0.1, 0.01, 1e-3, 1e-4), (0.2, 0.0)):
        df = trajectories(
            np.random.default_rng(0), 5, end, planted=planted, noise=0.03, looks=40,
            tasks=studies,
        )  # fmt: skip
        df["setting"] = df["task"]  # a study each
        drawn = gaps(df, ["multi"], "single", "test", 20, "loss")
        names = sorted(df["setting"].unique())
        rows = persistence.judge(drawn, names, "multi", MARGINS["loss"])
        said = [row.verdict for row in rows if not row.subject and row.setting]
        shares = {name: said.count(name) / studies for name in set(said)}
        what = (
            f"C1: gap of {planted:.0%} from a loss of 1/3 on, n=5, final loss {end:g}"
        )
        yield from _told(what, shares)


def gap_task(values: np.ndarray, task: int) -> Paired:
    """Make a task of which early and late gap are drawn ``[2, n]``."""
    both = {"early": values[0], "late": values[1], "mean": values.mean(axis=0)}
    return Paired("s", f"t{task}", list(range(values.shape[1])), both)


def c1(
    rng: np.random.Generator, truth: np.ndarray, seeds: int, size: float, spread: float
) -> str:
    """Judge C1 on tasks with true gaps ``[T, 2]``, early and late."""
    scale = size * sizes(rng, len(truth), spread)
    early = draw(rng, seeds, scale, shared=0.25)
    late = 0.6 * early + 0.8 * draw(rng, seeds, scale, shared=0.25)
    tasks = [
        gap_task(truth[k][:, None] + np.stack([early[k], late[k]]), k)
        for k in range(len(truth))
    ]
    return persistence.judge(tasks, SETTINGS, "multi", MARGINS["loss"])[-1].verdict


def persisting(studies: int) -> Iterator[Row]:
    """Count verdicts of C1 on early and late gaps."""
    cells = [
        (f"one of T={t} tasks has a gap of 20%, s.d. 5%", _one(t), 5.0)
        for t in (3, 8, 20)
    ]
    cells += [("no gap, s.d. 2%, T=20", np.zeros((20, 2)), 2.0)]
    cells += [("no gap, s.d. 20%, T=8", np.zeros((8, 2)), 20.0)]
    cells += [("a gap that fades, s.d. 10%, T=8", np.tile([20.0, 0.0], (8, 1)), 10.0)]
    for (name, truth, size), spread in product(cells, (0.0, 0.5)):
        shares = verdicts(studies, lambda rng, a=(truth, 3, size, spread): c1(rng, *a))
        yield from _told(f"C1: n=3, {name}, s.d. spread {spread:g}", shares)


def _one(tasks: int) -> np.ndarray:
    return np.where(np.arange(tasks)[:, None] == 0, 20.0, np.zeros((tasks, 2)))


def explaining(studies: int) -> Iterator[Row]:
    """Count verdicts of C2 on one factor."""
    signs = 20 * (-1.0) ** np.arange(8)
    cells = {
        "the factor does not differ": (0 * signs, 0.0),
        "the factor explains every gap": (signs / 40, 0.0),
        "the factor explains by the least that counts": (
            np.sign(signs) * np.log(1.05), 0.0),
        "no signal (s.d. 40%)": (0 * signs, 38.0),
    }  # fmt: skip
    for name, (contrast, more) in cells.items():

        def judged(
            rng: np.random.Generator, truth: np.ndarray = contrast, more: float = more
        ) -> str:
            tasks = []
            first = draw(rng, 3, np.full(8, 2 + more), shared=0.25)
            second = draw(rng, 3, np.full(8, (2 + more) / 40), shared=0.25)
            for k in range(8):
                values = {"gap": signs[k] + first[k], "contrast": truth[k] + second[k]}
                tasks.append(Paired("s", f"t{k}", [0, 1, 2], values))
            factor = [explanation.Factor("fisher_trace", tasks, {})]
            rows = explanation.judge(factor, SETTINGS, "multi", MARGINS["loss"])
            return rows[-1].verdict

        yield from _told(f"C2: n=3, T=8, {name}", verdicts(studies, judged))


def harming(studies: int) -> Iterator[Row]:
    """Count verdicts of C3 on auxiliary sets: ten of each of three targets."""
    for truth in ((0.8, 0.0, 0.0), (0.0, 0.0, 0.0), (0.8, 0.0, 0.9), (0.8, 0.6, 0.6)):

        def judged(rng: np.random.Generator, truth: tuple = truth) -> str:
            units = []
            for target, k in product("abc", range(10)):
                conflict = rng.normal()
                outcomes = {
                    name: rho * conflict + (1 - rho**2) ** 0.5 * rng.normal()
                    for name, rho in zip(harm.OUTCOMES, truth, strict=True)
                }
                unit = harm.Affected(
                    "s", f"{target}/{k}", target, conflict, outcomes, 3
                )
                units.append(unit)
            return harm.judge(units, SETTINGS, "multi", MARGIN_RHO)[-1].verdict

        what = f"C3: 10 sets of 3 targets, truth {' / '.join(f'{r:g}' for r in truth)}"
        yield from _told(what, verdicts(studies, judged))


def remedying(studies: int) -> Iterator[Row]:
    """Count verdicts of C4 in three settings, at a standard deviation of 0.3%."""
    for count, helps, change, spread in (
        (3, 0.0, 20.0, 0.0), (12, 0.0, 20.0, 0.0), (12, 0.0, 20.0, 0.5),
        (12, 2.0, 20.0, 0.0), (3, 0.5, 20.0, 0.0), (12, 0.0, 0.0, 0.0),
    ):  # fmt: skip

        def judged(
            rng: np.random.Generator, of: tuple = (count, helps, change, spread)
        ) -> str:
            count, helps, change, spread = of
            scale = 0.3 * sizes(rng, count, spread)
            transfer: list[list[Paired]] = [[] for _ in range(count)]
            for setting in "xyz":
                values = draw(rng, 3, scale, shared=0.5)
                values[0] += helps
                for k in range(count):
                    better = {"delta_m": values[k], "better": values[k] > 0}
                    transfer[k].append(Paired(setting, "", [0, 1, 2], better))
            trained = [
                [
                    Paired(setting, f"t{k}", [0, 1, 2], {"D": change + row})
                    for setting in "xyz"
                    for k, row in enumerate(draw(rng, 3, np.ones(3), shared=0.5))
                ]
                for _ in range(count)
            ]
            remedies = [
                remedy.Remedy(f"multi-{k}", transfer[k], trained[k])
                for k in range(count)
            ]
            rows = remedy.judge(
                remedies, list("xyz"), MARGINS["loss"], MARGINS["score"]
            )
            return rows[-1].verdict

        what = f"C4: n=3, {count} optimizers, one helps by {helps:g}%, losses differ "
        what += f"by {change:g}%, s.d. 0.3% (spread {spread:g})"
        yield from _told(what, verdicts(studies, judged))


def _told(what: str, shares: dict[str, float]) -> Iterator[Row]:
    for name in ("supported", "contradicted"):
        yield what, name, shares.get(name, 0.0)


PARTS = (coverage, band_coverage, bias, opening, persisting, explaining, harming)
PARTS += (remedying,)


def main(argv: Sequence[str]) -> None:
    """Print the table."""
    del argv
    print(f"| simulated ({STUDIES.value} studies) | counted | share |\n|---|---|---|")
    for part in PARTS:
        for what, counted, value in part(STUDIES.value):
            print(f"| {what} | {counted} | {value:.3f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
