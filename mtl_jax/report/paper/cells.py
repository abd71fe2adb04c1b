"""Tables of the paper's experiments, as cells, the paper's numbers beside ours."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtl_jax.analysis.aggregates import FACTORS
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.paper import MEAN, printed
from mtl_jax.analysis.paper.remedies import CHANGES
from mtl_jax.analysis.paper.table import KEY, SHADES
from mtl_jax.objectives.measure import Measure
from mtl_jax.report.charts.labels import difference
from mtl_jax.report.paper.looks import LABELS, UNITARY, said
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, Cell, counted, estimate, fixed, interval, p_value

DIGITS = {"sharpness": 3, "covariance": 1, "fisher": 2}
UNIT_DIGITS = {"%": 2}
"""Decimals of a transfer by the unit of its score; of others 3."""
QUADRANTS = ("better, better", "worse, worse", "better, worse", "worse, better")


def setting_name(setting: str) -> str:
    """Name the setting without what tells workdirs of one setting apart.

    >>> setting_name("fashion_mtl (adam)")
    'fashion_mtl'
    """
    return setting.partition(" (")[0]


def paper_rows(changes: Frame) -> Frame:
    """Add the paper's numbers to keys of deltas, of all tasks together: NaN elsewhere.

    Returns:
      The columns of `table.KEY`; paper_transfer, paper_sharpness, ...
    """
    keys = changes[KEY].drop_duplicates()
    keys = keys.assign(of=[setting_name(name) for name in keys["setting"]])
    theirs = printed().assign(variant=UNITARY).rename(columns={"setting": "of"})
    names = {name: f"paper_{name}" for name in ("transfer", *FACTORS)}
    made = keys.merge(
        theirs.rename(columns=names), on=["of", "target", "variant"], how="left"
    )
    return made[[*KEY, *names.values()]]


def transfer_text(row: Frame) -> str:
    """Write the transfer of a row of deltas, with its interval and unit.

    >>> row = {"delta": 1.5, "low": 1.0, "high": 2.0, "unit": "%"}
    >>> transfer_text(pd.Series(row))
    '+1.50 [1.00, 2.00] points'
    """
    unit = difference(Measure(1, row["unit"]))
    digits = UNIT_DIGITS.get(row["unit"], 3)
    text = estimate(row["delta"], row["low"], row["high"], digits)
    return f"{text} {unit}".strip()


def table_1(changes: Frame, *, only_significant: bool = False) -> Table:
    """Tabulate transfer and deltas of factors with the paper's shading.

    Args:
      changes: `analysis.deltas.deltas`.
      only_significant: leave out tasks whose transfer is not.
    """
    scores = changes[changes["aggregate"] == "score"]
    shown = scores[scores["significant"]] if only_significant else scores
    shown = shown.merge(paper_rows(changes), on=KEY)
    at = changes.set_index([*KEY, "aggregate"])
    several = scores["setting"].nunique() > 1
    rows = []
    for _, row in shown.iterrows():
        digits = UNIT_DIGITS.get(row["unit"], 3)
        unit = difference(Measure(1, row["unit"])) or row["name"].replace("_", " ")
        notes = [interval(row["low"], row["high"], digits) or row["reason"], unit]
        notes += _theirs(row["paper_transfer"], digits)
        text = fixed(row["delta"], digits, sign=True)
        cells = [
            *[Cell(row["setting"])] * several,
            Cell(row["target"]),
            Cell(said(row["variant"], row["group"])),
            Cell(text, "; ".join(notes), shade=SHADES[row["sense"]]),
        ]
        for factor in FACTORS:
            key = (*row[KEY], factor)
            theirs = _theirs(row[f"paper_{factor}"], DIGITS[factor])
            if key not in at.index:
                cells.append(Cell(DASH, "; ".join(["not recorded", *theirs])))
                continue
            of = at.loc[key]
            text = fixed(of["delta"], DIGITS[factor], sign=True)
            cells.append(Cell(text, "; ".join(theirs), shade=SHADES[of["sense"]]))
        yes = "yes" if row["significant"] else "no"
        count = f"{row['st_seeds']}, {row['mt_seeds']} seeds"
        few = f"; {row['points']} of {row['wanted']} points"
        count += few * (row["points"] < row["wanted"])
        rows.append([*cells, Cell(yes, count)])
    head = ["setting"] * several + ["task", "together", "transfer, + is better"]
    head += [f"Δ {LABELS[factor]}" for factor in FACTORS] + ["significant"]
    note = (
        "Δ: mean over MT seeds minus mean over ST seeds, of one number a run "
        "(footnote 5 of the paper): test score at the 10 best validation points, "
        "sharpness and covariance over the last 20, the 20 largest Fisher traces. "
        "Blue: better by the canon (more score, less of a factor); orange: worse; no "
        "colour: not significant, mean ± 2 s.d. of both overlap. In brackets 95% t "
        "intervals, paired by seed. 'Paper': what its Table 1 prints."
    )
    title = "Table 1: transfer and factors"
    return Table("table-1", title, head, rows, note)


def _theirs(value: float, digits: int) -> list[str]:
    if not math.isfinite(value):
        return []
    return [f"paper {fixed(value, digits if value else 0, sign=True)}"]


def quadrants(changes: Frame) -> Table:
    """Count the significant points of Figure 4 in every quadrant, by factor."""
    rows = []
    for factor in CHANGES:
        of = changes[(changes["factor"] == factor) & changes["significant"]]
        known = of[np.isfinite(of["factor_change"])]
        counts = known["quadrant"].value_counts()
        explained = sum(int(counts.get(name, 0)) for name in QUADRANTS[:2])
        share = Cell(f"{explained} of {len(known)}" if len(known) else DASH)
        cells = [Cell(str(int(counts.get(name, 0)))) for name in QUADRANTS]
        rows.append([Cell(LABELS[factor]), *cells, share])
    head = ["factor", *(f"score, factor: {name}" for name in QUADRANTS), "explained"]
    note = (
        "Points: a task and a multi-task optimizer whose mean test score differs from "
        "that of the sum of losses by the paper's rule. Of a factor, less is better. A "
        "factor explains a point that is better, or worse, in both."
    )
    return Table("quadrants", "Figure 4 in numbers", head, rows, note)


def sets(table: Frame, correlated: Frame) -> Table:
    """Tabulate the correlations of Figures 5 and 6, beside what the paper sees."""
    rows = []
    for _, row in correlated.iterrows():
        value = Cell(DASH, row["reason"])
        if math.isfinite(row["rho"]):
            value = Cell(fixed(row["rho"], 2, sign=True), p_value(row["p"]))
        theirs = "none" if row["measured"] == "score" else "negative, nearly monotone"
        rows.append(
            [
                Cell(row["setting"]),
                Cell(row["target"]),
                Cell(LABELS[row["measured"]]),
                value,
                Cell(str(row["sets"])),
                Cell(theirs),
            ]
        )
    seeds = table[table["seed"] == MEAN]["seeds"]
    head = ["setting", "target", "with gradient similarity", "Spearman's ρ", "sets"]
    least, most = int(seeds.min()), int(seeds.max())
    note = (
        f"The unit is an auxiliary set, a mean over {f'{least} to ' * (least < most)}"
        f"{counted(most, 'seed')}. p: of no relation, by the t approximation."
    )
    return Table("sets", "Figures 5 and 6 in numbers", [*head, "paper"], rows, note)


def temperatures(best: Frame) -> Table:
    """Tabulate the best temperature of every task and variant."""
    rows = [
        [
            Cell(row["setting"]),
            Cell(row["target"]),
            Cell(said(row["variant"], row["group"])),
            Cell(f"{row['temperature']:.3g}", f"{row['learning_rate']:g} / "
                 f"{row['batch_size']}"),
            Cell(fixed(row["mt"], UNIT_DIGITS.get(row["unit"], 3)), f"{row['split']} "
                 f"{row['name']}".replace("_", " ")),
        ]
        for _, row in best.iterrows()
    ]  # fmt: skip
    head = ["setting", "task", "trained", "best temperature", "there"]
    note = "Temperature: learning rate over batch size (Mueller et al., 2022)."
    return Table("temperatures", "Best temperatures", head, rows, note)


def joined(frames: Sequence[Frame]) -> Frame:
    """Concatenate frames, of which those without rows say nothing of their types."""
    full = [frame for frame in frames if len(frame)] or list(frames[:1])
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()
