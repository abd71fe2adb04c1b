"""Tables of grouping, for the page and for the terminal."""

from collections.abc import Iterator, Sequence

import pandas as pd
from rich import box
from rich.table import Table as Printed

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.grouping import PREDICTORS, choices, ranking
from mtl_jax.analysis.grouping.ranking import REPEAT
from mtl_jax.report.tables import Table
from mtl_jax.report.text import DASH, Cell, effect, fixed, p_value
from mtl_jax.types import InputError

DATA = {
    "cka": "CKA of single-task trunks",
    "covariance": "covariances of inputs",
    "overlap": "overlap of inputs",
}
TITLES = {name: each.title for name, each in PREDICTORS.items()} | DATA
TITLES |= {REPEAT: "the other seeds' measurement"}
NOTE = (
    "Spearman's ρ, within tasks, of a predictor's order of the groups of a task with "
    "that of its transfers, percent of alone; a group scores the mean over its other "
    "tasks. In brackets 95% intervals, whose error is at least that under exchange of "
    "the predictor's tasks; p is the share of such exchanges that rank as well. HOA "
    "reads validation data, what it ranks are test data of the same runs. Cost of one "
    "seed in steps times tasks; looks are points at which gradients were measured, "
    "besides. The last row ranks each seed by the others: where that is near 0, the "
    "transfers are noise, and nothing could predict them."
)
CHOSEN = (
    "Groups with the highest mean score under the budget, a task served by the best of "
    "them; of more than 13 tasks no large groups are searched. Measured: mean transfer "
    "of the tasks in the groups that serve them, percent of alone, + is better; 95% t "
    "over seeds. HOA and measured groups choose by validation data of the very runs "
    "whose test data are measured."
)


def ranked(table: Frame) -> Table:
    """Tabulate `analysis.grouping.ranking`, a row per predictor and kind of groups.

    Kinds of groups that nothing ranks are left out; see `unranked`.
    """
    head = ["predictor", "over", "ρ with scores", "ρ with losses", "tasks with ρ > 0"]
    head += ["task-groups", "task-steps", "looks"]
    rows = []
    pooled = table[table["target"] == ""] if len(table) else table
    if len(pooled):
        pooled = pooled[~pooled["over"].isin(unranked(pooled))]
    for over, name in _keys(pooled, ["over", "predictor"]):
        of = table[(table["over"] == over) & (table["predictor"] == name)]
        cells = [_rho(of[of["measured"] == m]) for m in ("score", "loss")]
        first = of.iloc[0]
        row = [Cell(TITLES.get(name, name)), Cell(over), *cells, _signs(of)]
        row += [Cell(f"{int(first['units'])}"), _count(first["task_steps"])]
        rows.append([*row, _count(first["looks"])])
    title = "Which predictor ranks the transfer of groups?"
    return Table("grouping", title, head, rows, NOTE)


def unranked(table: Frame) -> dict[str, str]:
    """Tell why nothing ranks a kind of groups, by kind."""
    pooled = table[table["target"] == ""]
    known = set(pooled[pooled["value"].notna()]["over"])
    reasons = pooled.drop_duplicates("over").set_index("over")["reason"].to_dict()
    return {over: text for over, text in reasons.items() if over not in known}


def chosen(table: Frame) -> Table:
    """Tabulate `analysis.grouping.choices`."""
    head = ["by", "models", "groups", "predicted", "measured (%)"]
    rows = []
    for _, row in table.iterrows():
        name = str(row["by"])
        measured = effect(row["measured"], row["low"], row["high"], 2, row["reason"])
        known = pd.notna(row["models"])
        rows.append(
            [
                Cell(TITLES.get(name, name)),
                Cell(str(int(row["models"])) if known else DASH),
                Cell(row["groups"] if known else DASH, _served(row) if known else ""),
                Cell(fixed(row["predicted"], 3)),
                measured,
            ]
        )
    return Table("groups", "Best groups", head, rows, CHOSEN)


def told(
    df: Frame, data: Frame | None, budget: int, by: Sequence[str] = ()
) -> Iterator[Printed | str]:
    """Yield what ``mtl-jax group`` prints: tables, and a line for what is missing.

    Args:
      df: records of one rate a task and variant.
      data: of `training.likeness`.
      budget: models, at most.
      by: names of predictors; all if empty.
    """
    table = ranking(df, data)
    if not len(table):
        yield "no groups: train the variants single, multi and multi:pairs."
        return
    names = [*table["predictor"].unique()]
    kept = [name for name in names if not by or name in [*by, REPEAT]]
    for setting in table["setting"].unique():
        rows = table[(table["setting"] == setting) & table["predictor"].isin(kept)]
        yield from (f"{over}: {why}" for over, why in unranked(rows).items())
        if (made := ranked(rows)).rows:
            yield printed(made, setting)
    try:
        best = choices(df, budget, data)
    except InputError as error:
        yield f"groups: {error}"
    else:
        shown = [name in kept or name not in TITLES for name in best["by"]]
        yield printed(chosen(best[shown]), f"at most {budget} models")
    for name, predictor in PREDICTORS.items():
        if name not in names and (not by or name in by):
            yield f"{name}: not in the records; it needs {predictor.needs}."


def printed(table: Table, title: str = "") -> Printed:
    """Lay a table of the page out for a terminal."""
    made = Printed(title=f"{table.title} ({title})", box=box.SIMPLE_HEAD)
    made.caption, made.caption_justify = table.note, "left"
    for name in table.head:
        made.add_column(name)
    for row in table.rows:
        made.add_row(*("\n".join(filter(None, cell[:2])) for cell in row))
    return made


def _keys(table: Frame, columns: list[str]) -> Iterator[tuple[str, str]]:
    if len(table):
        keys = table[columns].drop_duplicates()
        yield from keys.itertuples(index=False, name=None)


def _rho(rows: Frame) -> Cell:
    """A correlation over all tasks, with its interval and p."""
    rows = rows[rows["target"] == ""]
    if not len(rows):
        return Cell(DASH)
    row = rows.iloc[0]
    cell = effect(row["value"], row["low"], row["high"], 2, row["reason"])
    if pd.isna(row["p"]):
        return cell
    return cell._replace(note=f"{cell.note}, {p_value(row['p'])}")


def _signs(rows: Frame) -> Cell:
    """Number of tasks whose groups are ranked the right way round, by scores."""
    rows = rows[(rows["target"] != "") & (rows["measured"] == "score")]
    known = rows[rows["value"].notna()]
    return Cell(f"{(known['value'] > 0).sum()} of {len(known)}" if len(known) else DASH)


def _count(number: float) -> Cell:
    return Cell(f"{int(number):,}" if pd.notna(number) else DASH)


def _served(row: Frame) -> str:
    return f"for {row['serves']}" if row["serves"] != row["groups"] else ""
