"""Records: one long table of everything that was measured, in Parquet.

A row is one number: of a run, at a step, on a split, of a task and, for a factor, of
some of the parameters. A workdir holds one
file per step, each written whole or not at all, so that a crash leaves no half row
and a resumed run replaces what it repeats.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_jax.types import InputError

FOLDER = "records"


class Row(NamedTuple):
    """One measured number."""

    setting: str
    variant: str
    """``single``, ``multi``, ``multi-pcgrad``, ..."""
    run: int
    """Number of the run within its variant."""
    seed: int
    learning_rate: float
    batch_size: int
    smto: str
    step: int
    """Updates made."""
    epoch: float
    """Passes over the task's training split."""
    split: str
    """``probe`` (the fixed training examples), ``validation``, ``test``; ``train``
    for what concerns the run as a whole."""
    task: str
    """Name of the task; empty for what concerns all tasks of the run."""
    name: str
    """``loss`` (nats per example), ``accuracy`` (fraction), ...; a factor, see
    `mtl_jax.factors`; ``diverged``: the run was frozen at ``step``."""
    value: float
    scope: str = ""
    """Parameters that a factor looks at: ``task`` (trunk and head), ``shared`` (trunk);
    empty for what is not a factor."""
    standard_error: float = math.nan
    """Of the value as an estimate; NaN where it is exact or nothing is known."""


ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
SCHEMA = pa.schema(
    [(name, ARROW_TYPES[kind]) for name, kind in Row.__annotations__.items()]
)


def write(workdir: Path, step: int, rows: Iterable[Row]) -> None:
    """Write the rows that the loop found at a step; they appear all at once."""
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    columns = zip(*rows, strict=True)
    table = pa.table(dict(zip(Row._fields, map(list, columns), strict=True)), SCHEMA)
    path = _path(workdir, step)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def merge(workdir: Path, step: int, rows: Iterable[Row]) -> None:
    """Add rows to those of a step, in place of those that say the same thing."""
    path = _path(workdir, step)
    old = pq.read_table(path, schema=SCHEMA).to_pylist() if path.exists() else []
    both = {_what(row): row for row in [*(Row(**each) for each in old), *rows]}
    write(workdir, step, both.values())


def _what(row: Row) -> tuple:
    return row.variant, row.run, row.step, row.split, row.task, row.scope, row.name


def read(workdir: str | Path) -> pd.DataFrame:
    """All records of a workdir, by step; the columns are the fields of `Row`.

    Raises:
      InputError: there are none.
    """
    paths = sorted((Path(workdir) / FOLDER).glob("*.parquet"))
    if not paths:
        raise InputError(
            f"{workdir} holds no records; name the --workdir of a training run."
        )
    tables = [pq.read_table(path, schema=SCHEMA) for path in paths]
    return pa.concat_tables(tables).to_pandas()


def drop_after(workdir: Path, step: int) -> None:
    """Delete what was written after a step, and what a crash left unfinished."""
    for path in (workdir / FOLDER).glob("*.unfinished"):
        path.unlink()
    for path in (workdir / FOLDER).glob("*.parquet"):
        if int(path.stem) > step:
            path.unlink()


def _path(workdir: Path, step: int) -> Path:
    return workdir / FOLDER / f"{step:010d}.parquet"
