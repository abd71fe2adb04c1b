"""The choice of learning rates and batch sizes: what was tried, and by which rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mtl_jax import analysis
from mtl_jax.analysis.curves import Frame
from mtl_jax.report.text import counted, listed
from mtl_jax.storage import candidates
from mtl_jax.types import InputError

COLUMNS = ("setting", "variant", "task", "learning_rate", "batch_size", "by")
COLUMNS += ("validation", "runs", "diverged", "chosen", "options", "at_edge")
MOST_NAMES = 6
"""Tasks up to which they are named one by one."""

Cell = tuple[float, int]
"""A learning rate and a batch size."""


class Choice(NamedTuple):
    """Candidates and what was chosen of them."""

    candidates: Frame
    """`analysis.candidates` with ``options`` and ``at_edge``; empty where validation
    data are missing."""
    rule: str
    swept: bool
    """Candidates were tried in runs of their own; the records are of the chosen."""

    @property
    def several(self) -> bool:
        """Tell whether there was anything to choose."""
        return len(self.candidates) > 0 and not self.candidates["chosen"].all()

    @property
    def chosen(self) -> Frame:
        """Select the candidates that were chosen, where there are any."""
        return self.candidates[self.candidates["chosen"]]

    def options(self, variant: str, cell: Cell) -> str:
        """Return the options that a variant was trained with in a cell."""
        if not len(self.candidates):
            return ""
        rows = self.candidates[self.candidates["variant"] == variant]
        at = (rows["learning_rate"] == cell[0]) & (rows["batch_size"] == cell[1])
        return next(iter(rows[at]["options"]), "")


def choice_of(workdir: Path, df: Frame) -> Choice:
    """Read the choice that a sweep left beside the records, or make the one they allow.

    Raises:
      InputError: the table of candidates cannot be read.
    """
    swept = _swept(workdir)
    if swept is not None:
        return swept._replace(
            candidates=swept.candidates.assign(setting=df["setting"].iloc[0])
        )
    try:
        table = analysis.candidates(df)
    except InputError:
        return Choice(pd.DataFrame(), analysis.RULE, False)
    return Choice(table.assign(options="", at_edge=False), analysis.RULE, False)


def _swept(workdir: Path) -> Choice | None:
    path = workdir / candidates.TABLE
    if not path.exists() and not (workdir / candidates.SELECTION).exists():
        return None
    try:
        table, content = candidates.read(workdir)
        return Choice(table[[*COLUMNS]], content["rule"], True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} and {candidates.SELECTION} beside it are not what a sweep leaves "
            f"({error}); run the study again, or take both away."
        ) from error


def cells_text(variant: str, cells: Mapping[Cell, list[str]], choice: Choice) -> str:
    """Write the cells of a variant (``0.01, 64, c=0.4``), several with their tasks."""
    many = sum(map(len, cells.values())) > MOST_NAMES
    texts = []
    for (rate, size), tasks in cells.items():
        words = [f"{rate:g}", str(size), choice.options(variant, (rate, size))]
        names = counted(len(tasks), "task") if many else listed(tasks)
        whose = f" ({names})" * (len(cells) > 1)
        texts.append(", ".join(filter(None, words)) + whose)
    return "; ".join(texts)


def account(choice: Choice) -> str:
    """Describe how the choice was made, in a few sentences."""
    table, chosen = choice.candidates, choice.chosen
    alone = chosen[chosen["task"] != ""]["variant"].unique().tolist()
    joint = [v for v in chosen["variant"].unique() if v not in alone]
    each = table.groupby(["variant", "task"]).size().max()
    names = listed([name.replace("_", " ") for name in table["by"].unique() if name])
    where = "in a sweep of its own" if choice.swept else "among the runs of the workdir"
    how = "task by task for every variant"
    if joint:
        how = f"once for all tasks of {listed(joint)}"
        how += f", task by task for {listed(alone)}" * bool(alone)
    text = f"by validation {names}, {where}: {each} candidates for each choice, {how}"
    edge = int(chosen["at_edge"].sum())
    if edge:
        text += (
            f"; {edge} of {counted(len(chosen), 'choice')} "
            f"{'lies' if edge == 1 else 'lie'} at the edge of the grid, and a better "
            f"one may lie beyond"
        )
    return text + "."
