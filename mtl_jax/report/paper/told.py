"""Sentences: what of the paper's findings our runs show, and what not."""

import math
from collections.abc import Iterator

import numpy as np

from mtl_jax.analysis.aggregates import FACTORS
from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.paper import SIGNS
from mtl_jax.analysis.paper.remedies import CHANGES
from mtl_jax.analysis.paper.table import KEY
from mtl_jax.report.paper.cells import (
    DIGITS,
    QUADRANTS,
    paper_rows,
    transfer_text,
)
from mtl_jax.report.paper.looks import NAMES, said
from mtl_jax.report.text import counted, fixed, listed, p_value

WORDS = {1: "positive", -1: "negative"}
SENSES = {1: "better", -1: "worse", 0: "not significant"}
ALIKE = 0.05
"""P value from which on a relation is not told apart from none."""


def transfers(changes: Frame) -> Iterator[str]:
    """Tell the transfer of every target and variant, and the paper's sign."""
    scores = changes[changes["aggregate"] == "score"]
    scores = scores.merge(paper_rows(changes), on=KEY)
    for _, row in scores.iterrows():
        theirs = SIGNS.get(row["group"], np.sign(row["paper_transfer"]))
        rule = "significant" if row["significant"] else "not significant"
        points = f", {row['points']} points of {row['wanted']}" * (
            row["points"] < row["wanted"]
        )
        text = (
            f"{_subject(row, changes)} instead of alone: "
            f"transfer {transfer_text(row)} ({counted(row['seeds'], 'common seed')}"
            f"{points}), {rule} by the paper's rule"
        )
        if theirs in WORDS:
            text += f". The paper's is {WORDS[theirs]}: {_agreement(row, theirs)}"
        yield f"{text}."


def gaps(table: Frame) -> Iterator[str]:
    """Tell the gap of the score at the same training loss, and where it opens."""
    if not len(table):
        return
    for _, row in table[table["statistic"] == "late"].iterrows():
        name = row["name"].replace("_", " ")
        text = f"{_subject(row, table)}, test {name} at the same training loss: "
        if not math.isfinite(row["value"]):
            yield f"{text}not comparable ({row['reason']})."
            continue
        moved = row[["value", "low", "high", "unit"]].rename({"value": "delta"})
        text += f"{transfer_text(moved)} in the last third, MT minus ST"
        text += f" ({counted(int(row['seeds']), 'common seed')})"
        if math.isfinite(row["opens_at"]):
            text += (
                f"; the gap opens at a training loss of {row['opens_at']:.2g} (epoch "
                f"{row['opens_epoch']:.3g})"
            )
        else:
            text += "; its band never leaves 0 out for good, so no opening is told"
        yield f"{text}."


def _subject(row: Frame, table: Frame) -> str:
    """The target of a row and how it is trained, with its setting where several are."""
    where = f"{row['setting']}, " * (table["setting"].nunique() > 1)
    return f"{where}{row['target']} {said(row['variant'], row['group'])}"


def _agreement(row: Frame, theirs: float) -> str:
    if not row["significant"]:
        return "not decided here"
    if np.sign(row["delta"]) == theirs:
        return "agrees"
    return "does not agree"


def significant(changes: Frame) -> Iterator[str]:
    """Tell how many tasks have significant transfer, setting by setting."""
    scores = changes[changes["aggregate"] == "score"]
    for setting, rows in scores.groupby("setting", sort=False):
        yes = rows[rows["significant"]]
        up, down = ((yes["delta"] * sign > 0).sum() for sign in (1, -1))
        yield (
            f"{setting}: transfer is significant in {len(yes)} of "
            f"{counted(len(rows), 'pair')} of a task and a variant: {up} positive, "
            f"{down} negative."
        )


def factors(changes: Frame) -> Iterator[str]:
    """Tell whether together looks better than or like alone, whatever the transfer."""
    worse = total = 0
    for _, rows in changes.groupby(KEY, sort=False):
        of = rows.set_index("aggregate")
        known = [name for name in FACTORS if name in of.index]
        if not known or "score" not in of.index:
            continue
        texts = [
            f"{NAMES[name]} {fixed(of.loc[name, 'delta'], DIGITS[name], sign=True)} "
            f"({SENSES[of.loc[name, 'sense']]})"
            for name in known
        ]
        total += len(known)
        worse += sum(of.loc[name, "sense"] < 0 for name in known)
        yield (
            f"{_subject(rows.iloc[0], changes)}: transfer "
            f"{transfer_text(of.loc['score'])} "
            f"({SENSES[of.loc['score', 'sense']]}); {listed(texts)}."
        )
    if total:
        verdict = "agrees" if not worse else "does not agree"
        yield (
            f"In the paper training together looks better than or like training alone "
            f"in all three factors, whatever its transfer. Here {worse} of {total} "
            f"deltas are significantly worse: {verdict}."
        )


def consistency(changes: Frame) -> Iterator[str]:
    """Tell of every factor in how many significant transfers it goes as expected."""
    scores = changes[(changes["aggregate"] == "score") & changes["significant"]]
    for setting, of_setting in scores.groupby("setting", sort=False):
        texts, explains, both = [], [], of_setting["sense"].nunique() > 1
        for factor in FACTORS:
            of = changes[changes["aggregate"] == factor][[*KEY, "sense"]]
            pairs = of_setting[[*KEY, "sense"]].merge(of, on=KEY)
            if not len(pairs):
                continue
            agree = int((pairs["sense_x"] == pairs["sense_y"]).sum())
            texts.append(f"{NAMES[factor]} in {agree} of {len(pairs)}")
            if agree == len(pairs) and both:
                explains.append(NAMES[factor])
        if not texts:
            continue
        if not both:
            end = "transfer has one sign only, so this decides nothing"
        elif explains:
            end = f"{listed(explains)} would explain it: does not agree with the paper"
        else:
            end = "none explains it: agrees with the paper"
        yield (
            f"{setting}: a factor would explain transfer if it fell wherever transfer "
            f"is positive and rose wherever it is negative. It does: {listed(texts)}; "
            f"{end}."
        )


def beside_the_paper(changes: Frame) -> Iterator[str]:
    """Tell of the tasks that the paper prints how many have its sign."""
    scores = changes[changes["aggregate"] == "score"]
    rows = scores.merge(paper_rows(changes), on=KEY)
    rows = rows[np.isfinite(rows["paper_transfer"])]
    for setting, of in rows.groupby("setting", sort=False):
        theirs = np.sign(of["paper_transfer"])
        same = int(((np.sign(of["delta"]) == theirs) & of["significant"]).sum())
        other = int(((np.sign(of["delta"]) == -theirs) & of["significant"]).sum())
        names = counted(len(of), "task")
        yield (
            f"{setting}: of {names} that the paper prints, transfer is significant and "
            f"of the paper's sign here in {same}, of the other in {other}, and not "
            f"significant in {len(of) - same - other}."
        )


def remedies(table: Frame) -> Iterator[str]:
    """Tell what explains the changes that multi-task optimizers make."""
    pairs = table.drop_duplicates(["setting", "target", "variant"])
    changed = int(pairs["significant"].sum())
    yield (
        f"Of {counted(len(pairs), 'pair')} of a task and a multi-task optimizer, "
        f"{changed} change the test score significantly against the sum of losses "
        f"({int((pairs['significant'] & (pairs['score_change'] > 0)).sum())} for the "
        f"better)."
    )
    texts, complete = [], []
    for factor in CHANGES:
        of = table[(table["factor"] == factor) & table["significant"]]
        of = of[np.isfinite(of["factor_change"])]
        if not len(of):
            continue
        agree = int(of["quadrant"].isin(QUADRANTS[:2]).sum())
        texts.append(f"{NAMES[factor]} {agree} of {len(of)}")
        complete += [NAMES[factor]] * (agree == len(of))
    if texts:
        end = f"{listed(complete)} all of them: does not agree"
        yield (
            f"Explained by a change of the same sense: {listed(texts)}. In the paper "
            f"no factor explains all: {end if complete else 'agrees'}."
        )
    losses = table[table["factor"] == "minimum_loss"]
    higher = int(((losses["factor_change"] > 0) & losses["factor_significant"]).sum())
    if len(losses):
        yield (
            f"The minimum training loss is significantly higher than that of the sum "
            f"in {higher} of {len(losses)}; the paper: often."
        )


def sets(correlated: Frame) -> Iterator[str]:
    """Tell what goes with gradient similarity over auxiliary sets."""
    for keys, rows in correlated.groupby(["setting", "target"], sort=False):
        known = rows[np.isfinite(rows["rho"])].set_index("measured")
        if not len(known):
            yield f"{keys[1]}: {rows['reason'].iloc[0]}."
            continue
        falls = [name for name in FACTORS if name in known.index]
        clear = [
            name
            for name in falls
            if known.loc[name, "rho"] < 0 and known.loc[name, "p"] < ALIKE
        ]
        text = (
            f"{keys[1]}: over {int(known['sets'].max())} auxiliary sets "
            f"{len(clear)} of {len(falls)} factors rise clearly as gradient similarity "
            f"falls (the paper: all)"
        )
        if "score" in known.index:
            row = known.loc["score"]
            related = "a" if row["p"] < ALIKE else "no clear"
            text += (
                f"; with the test score ρ is {fixed(row['rho'], 2, sign=True)}, "
                f"{p_value(row['p'])}: {related} relation (the paper: none)"
            )
        yield f"{text}."


def temperatures(table: Frame, best: Frame) -> Iterator[str]:
    """Tell best temperatures, and whether tasks differ in them."""
    tried = table.groupby("setting")["temperature"].nunique()
    for keys, rows in best.groupby(["setting", "variant", "group"], sort=False):
        if tried[keys[0]] == 1:
            continue
        low, high = rows["temperature"].min(), rows["temperature"].max()
        where = f"{low:.3g}" if math.isclose(low, high) else f"{low:.3g} to {high:.3g}"
        yield (
            f"{keys[0]}, {said(keys[1], keys[2])}: best temperature {where}, over "
            f"{counted(len(rows), 'task')}."
        )
    known = table[np.isfinite(table["transfer"])]
    for keys, rows in known.groupby(["setting", "variant", "group"], sort=False):
        means = rows.groupby("temperature")["transfer"].mean()
        if len(means) > 1:
            yield (
                f"{keys[0]}, {said(keys[1], keys[2])}: mean transfer is best at "
                f"{means.idxmax():.3g} ({fixed(means.max(), 2, sign=True)}) and worst "
                f"at {means.idxmin():.3g} ({fixed(means.min(), 2, sign=True)})."
            )
