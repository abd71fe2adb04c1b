"""A folder of files as tasks: one ``.npz``, ``.parquet`` or ``.arrow`` file a task.

``NAME.npz`` holds arrays ``x [N, ...]``, ``y [N]`` and, if it likes, ``split [N]``. A
table has a column ``y``, if it likes ``split``, and all other columns are inputs.
Splits are ``train``, ``validation`` and ``test``; without them a tenth of the rows is
dealt to validation and a fifth to the test. Whole numbers and booleans are classes,
other numbers a regression.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.data.arrays import SPLITS, Task, from_arrays
from mtl_jax.data.dataset import Dataset
from mtl_jax.storage import reason
from mtl_jax.types import DataMissing, InputError

TARGET, SPLIT = "y", "split"
SHARES = {"validation": 0.1, "test": 0.2}
"""Rows of a task that brings no splits."""


def load(directory: str, seed: int = 0) -> Dataset:
    """Load the tasks of a folder, each named as its file, in alphabetical order.

    Args:
      directory: the folder, ``data.dir`` of a configuration.
      seed: deals rows to splits, where files have none.

    Raises:
      InputError: there is no such folder, or a file of it is no task.
    """
    folder = Path(directory)
    if not directory or not folder.is_dir():
        raise DataMissing(
            f"the folder {directory!r} of tasks is not there; name one by "
            f"--config.data.dir, with a file a task: {', '.join(READERS)}."
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in READERS)
    if not files:
        raise DataMissing(
            f"{folder} holds no task; put a file a task there: {', '.join(READERS)}."
        )
    names = [path.stem for path in files]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{folder} holds two files of task {name!r}; keep one.")
    dataset = from_arrays({path.stem: _task(path, seed) for path in files})
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    origin = {"kind": "folder", "files": digests}
    return dataset._replace(
        provenance={"sources": {"folder": origin}, "seed": seed, "remarks": []}
    )


def _task(path: Path, seed: int) -> Task:
    try:
        columns = READERS[path.suffix](path)
    except Exception as error:
        raise InputError(f"{path} cannot be read: {reason.of(error)}.") from error
    for name in ("x", TARGET):
        if name not in columns:
            raise InputError(
                f"{path} has no {name!r}; a file of a task has inputs x and targets y."
            )
    x, y = columns["x"], columns[TARGET]
    split = columns.get(SPLIT)
    if split is None:
        split = _dealt(len(x), seed)
    split = np.asarray(split).astype(str)
    if set(split) - set(SPLITS) or "train" not in split:
        raise InputError(
            f"{path}: split holds {sorted(set(split.tolist()))}; the splits are "
            f"{', '.join(SPLITS)}, and there must be rows of train."
        )
    if not len(x) == len(y) == len(split):
        raise InputError(
            f"{path} has {len(x)} inputs, {len(y)} targets and {len(split)} splits; "
            f"there must be as many of each."
        )
    pairs = {name: (x[split == name], y[split == name]) for name in SPLITS}
    given: Any = {name: pair for name, pair in pairs.items() if len(pair[0])}
    is_class = np.issubdtype(y.dtype, np.integer) or y.dtype == bool
    return Task(objective="softmax" if is_class else "gaussian", **given)


def _dealt(count: int, seed: int) -> np.ndarray:
    """Split of every row, dealt at random."""
    split = np.full(count, "train", dtype="<U10")
    order, start = np.random.default_rng(seed).permutation(count), 0
    for name, share in SHARES.items():
        stop = start + round(share * count)
        split[order[start:stop]] = name
        start = stop
    return split


def _npz(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:  # without pickles: they run what they hold
        return {name: arrays[name] for name in arrays.files}


def _table(path: Path) -> dict[str, Any]:
    import pyarrow.feather
    import pyarrow.parquet

    read = pyarrow.parquet.read_table
    if path.suffix != ".parquet":
        read = pyarrow.feather.read_table
    table = read(path)
    names = [n for n in table.column_names if n not in (TARGET, SPLIT)]
    columns = {n: table[n].to_numpy() for n in table.column_names}
    texts = [n for n in names if columns[n].dtype.kind not in "iufb"]
    if texts:
        raise ValueError(f"column {texts[0]!r} holds no numbers; encode it first")
    kept = {n: columns[n] for n in (TARGET, SPLIT) if n in columns}
    return {"x": np.stack([columns[n] for n in names], axis=1), **kept}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _npz,
    ".parquet": _table,
    ".arrow": _table,
    ".feather": _table,
}
"""Readers of files by their endings."""
