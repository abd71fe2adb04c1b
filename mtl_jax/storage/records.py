"""Records: one long table of everything that was measured, in Parquet.

A row is one number: of a run, at a step, on a split, of a task and, for a factor, of
some of the parameters. A workdir holds one
file per step, each written whole or not at all, so that a crash leaves no half row
and a resumed run replaces what it repeats. Whoever reads them reads them through the
`manifest`: what is missing, damaged or not of the run is said, never passed over.

Records of versions before the manifest are taken as they are, and listed in one by
the first command that writes there.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl_jax.storage import disk, manifest, reason
from mtl_jax.storage.manifest import Manifest, Parts
from mtl_jax.types import InputError

FOLDER = "records"


class Row(NamedTuple):
    """Measured number, with what it is of."""

    setting: str
    variant: str
    """``single``, ``multi``, ``multi-pcgrad``, ..., of a group ``multi:a/b+c``."""
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
    `mtl_jax.metrics.factors`; ``diverged``: the run was frozen at ``step``."""
    value: float
    scope: str = ""
    """Parameters that a factor looks at: ``task`` (trunk and head), ``shared`` (trunk);
    empty for what is not a factor."""
    standard_error: float = math.nan
    """Error of the value as an estimate; NaN where it is exact or nothing is known."""
    direction: int = 0
    """+1 where more of the value is better, -1 where less is; 0 of what is neither loss
    nor score."""
    unit: str = ""
    """Unit of a loss or a score, as in `mtl_jax.objectives.measure`."""
    group: str = ""
    """Tasks that train together, ``target/auxiliary+auxiliary`` or ``a+b`` where all
    count; empty for all tasks, and for a single one."""
    target: str = ""
    """The task of the group that counts; empty where all do."""


ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
SCHEMA = pa.schema(
    [(name, ARROW_TYPES[kind]) for name, kind in Row.__annotations__.items()]
)


def write(
    workdir: Path, step: int, rows: Iterable[Row], measured: bool = False
) -> None:
    """Write the rows that were found at a step; they appear all at once.

    Args:
      workdir: a folder.
      step: of the part; what it held before is replaced.
      rows: at least one.
      measured: they were found after training, which would not find them again.
    """
    _write(workdir, {step: rows}, _listed(workdir), measured)


def write_anew(workdir: Path, rows: Mapping[int, Iterable[Row]]) -> None:
    """Write all records of a folder, by step, in place of those that are there."""
    for path in (workdir / FOLDER).glob("[0-9]*.parquet"):
        path.unlink()
    _write(workdir, rows, Manifest({}))


def _write(
    workdir: Path,
    rows: Mapping[int, Iterable[Row]],
    listed: Manifest,
    measured: bool = False,
) -> None:
    (workdir / FOLDER).mkdir(exist_ok=True)
    new: Parts = {}
    for step, rows_of_step in rows.items():
        columns = map(list, zip(*rows_of_step, strict=True))
        table = pa.table(dict(zip(Row._fields, columns, strict=True)), SCHEMA)
        path = _path(workdir, step)
        with disk.unfinished(path) as file:
            pq.write_table(table, file)
        content = disk.draft(path).read_bytes()
        new[step] = manifest.part(content, table.num_rows, measured)
    # Listed first: parts are read from their drafts until those have their names.
    manifest.write(workdir, listed._replace(parts={**listed.parts, **new}))
    for step in new:
        disk.publish(_path(workdir, step))


def merge(workdir: Path, step: int, rows: Iterable[Row]) -> None:
    """Add measured rows to those of a step, in place of those that say the same."""
    listed, old = _listed(workdir), []
    if step in listed.parts:
        old = _table(_content(workdir, step, listed), _path(workdir, step)).to_pylist()
    both = {_what(row): row for row in [*(Row(**each) for each in old), *rows]}
    write(workdir, step, both.values(), measured=True)


def _what(row: Row) -> tuple:
    return row.variant, row.run, row.step, row.split, row.task, row.scope, row.name


def read(workdir: str | Path) -> pd.DataFrame:
    """Read all records of a workdir, by step; the columns are the fields of `Row`.

    Raises:
      InputError: there are none; or a part is missing, damaged, or not of this run.
    """
    folder = Path(workdir)
    listed = manifest.read(folder)
    while True:
        try:
            tables = _tables(folder, listed)
            break
        except InputError:
            before, listed = listed, manifest.read(folder)
            if before == listed:  # otherwise a run wrote to them meanwhile
                raise
    if not tables:
        raise InputError(
            f"{workdir} holds no records; name the --workdir of a training run."
        )
    df: Any = pa.concat_tables(tables).to_pandas()
    # Parts that are older than these columns have nothing there.
    return df.assign(
        direction=df["direction"].fillna(0).astype("int64"),
        **{name: df[name].fillna("") for name in ("unit", "group", "target")},
    )


def steps(workdir: Path) -> list[int]:
    """Return the steps that have records, in order."""
    return sorted(_lying(workdir))


def reconcile(
    workdir: Path, step: int, saved: Parts | None, say: Callable[[str], None]
) -> None:
    """Make the records those of a checkpoint, from which training goes on.

    What belongs to it is checked first; then what was written after it is deleted, as
    training makes that again.

    Args:
      workdir: claimed.
      step: of the checkpoint; -1 to start afresh.
      saved: the parts that it names; None if its version named none.
      say: told, in a sentence, what a person should know.

    Raises:
      InputError: a part of the checkpoint is missing or damaged, or there is a part
        of something else, or records whose checkpoints are gone; nothing is deleted.
    """
    listed = manifest.read(workdir)
    if step < 0 and (listed.checkpoint >= 0 if listed else _lying(workdir)):
        raise InputError(
            f"{workdir} holds records, but the checkpoints that go with them are gone. "
            f"Put them back into checkpoints/ to go on; to train again choose another "
            f"--workdir, or delete {FOLDER}/ and {manifest.FILE}, too. (A report needs "
            f"no checkpoints.)"
        )
    known = listed or Manifest(_adopted(workdir) if saved is None else saved)
    kept = _until(step, known.parts)
    _check_strays(workdir, known, sys.maxsize if listed else step)
    if saved is not None:
        _check_agreement(workdir, kept, saved, step)
    for each in kept:
        _content(workdir, each, known)
    if any(part.measured for each, part in known.parts.items() if each > step):
        say(
            f"what was measured of steps after {step} is dropped, as they are trained "
            f"again; measure them again afterwards"
        )
    drop_after(workdir, step)
    if known.parts and listed != Manifest(kept, step):
        manifest.write(workdir, Manifest(kept, step))


def drop_after(workdir: Path, step: int) -> None:
    """Delete what was written after a step, and what a crash left unfinished."""
    listed = manifest.read(workdir) or Manifest({})
    kept = _until(step, listed.parts)
    for path in (workdir / FOLDER).glob("[0-9]*.unfinished"):
        draft = path.read_bytes()
        if any(
            disk.draft(_path(workdir, each)) == path and part.is_of(draft)
            for each, part in kept.items()
        ):
            disk.publish(path.with_suffix(".parquet"))  # the crash was in between
        else:
            path.unlink()
    for each, path in _lying(workdir).items():
        if each > step:
            path.unlink()
    if kept != listed.parts:
        manifest.write(workdir, listed._replace(parts=kept))


def check(workdir: Path) -> None:
    """Raise an `InputError` where a part is missing, damaged, or not of this run."""
    _tables(workdir, manifest.read(workdir))


def _tables(workdir: Path, listed: Manifest | None) -> list[pa.Table]:
    """Read all parts by step; of a workdir without manifest those that lie there."""
    if listed is None:
        return [_table(_bytes(path), path) for path in _lying(workdir).values()]
    _check_strays(workdir, listed)
    return [
        _table(_content(workdir, step, listed), _path(workdir, step))
        for step in sorted(listed.parts)
    ]


def _table(content: bytes, path: Path) -> pa.Table:
    """Rows of a file, which is older than manifests if they cannot be read."""
    try:
        return pq.read_table(pa.BufferReader(content), schema=SCHEMA)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({reason.of(error)}). {_remedy(path.parent.parent)}"
        ) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _content(workdir: Path, step: int, listed: Manifest) -> bytes:
    """Bytes of a listed part, which were checked."""
    path = _path(workdir, step)
    for place in (path, disk.draft(path), path):  # it may get its name meanwhile
        with contextlib.suppress(OSError):
            content = place.read_bytes()
            if listed.parts[step].is_of(content):
                return content
    state = "is damaged" if path.exists() else "is missing"
    remedy = _remedy(workdir)
    if step > listed.checkpoint:
        remedy = "Give the training command again: it makes the file again."
    raise InputError(
        f"{path} {state}: it is not what {manifest.FILE} says was written. {remedy}"
    )


def _remedy(workdir: Path) -> str:
    return (
        f"Put a sound copy back; or train again, after deleting {workdir} or in "
        f"another --workdir."
    )


def _check_strays(workdir: Path, listed: Manifest, last: int = sys.maxsize) -> None:
    """Raise an `InputError` for a file up to a step that is not listed."""
    for step, path in _lying(workdir).items():
        if step not in listed.parts and step <= last:
            raise InputError(_stray(path))


def _check_agreement(workdir: Path, kept: Parts, saved: Parts, step: int) -> None:
    """Raise an `InputError` where manifest and checkpoint are of two runs."""
    for each in sorted(kept.keys() | saved.keys()):
        part = kept.get(each)
        if part != saved.get(each) and not (part and part.measured):
            raise InputError(
                f"{_path(workdir, each)} is not what it was when checkpoint {step} was "
                f"saved: {manifest.FILE} and {step} are of two runs. {_remedy(workdir)}"
            )


def _lying(workdir: Path) -> dict[int, Path]:
    """Files of records that lie in the folder, listed or not, by step."""
    paths = {}
    for path in sorted((workdir / FOLDER).glob("*.parquet")):
        if not path.stem.isdecimal() or path != _path(workdir, int(path.stem)):
            raise InputError(_stray(path))
        paths[int(path.stem)] = path
    return dict(sorted(paths.items()))


def _stray(path: Path) -> str:
    return f"{path} is not of this run: nothing here wrote it. Move it away."


def _listed(workdir: Path) -> Manifest:
    """The manifest; where there is none, of what lies there."""
    return manifest.read(workdir) or Manifest(_adopted(workdir))


def _adopted(workdir: Path) -> Parts:
    """Parts that a version without manifests wrote, as they are."""
    return {
        step: manifest.part(content, _table(content, path).num_rows)
        for step, path in _lying(workdir).items()
        for content in [_bytes(path)]
    }


def _until(step: int, parts: Parts) -> Parts:
    return {each: part for each, part in parts.items() if each <= step}


def _path(workdir: Path, step: int) -> Path:
    return workdir / FOLDER / f"{step:010d}.parquet"
