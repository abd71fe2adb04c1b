"""Candidates of a study on disk, and beside them what was chosen by which rule.

``candidates.csv`` is for people and spreadsheets; its checksum is in
``selection.json``.
"""

import io
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from mtl_jax.storage import disk

TABLE, SELECTION = "candidates.csv", "selection.json"
CHECKSUM = "candidates (crc32)"
WORDS = ("setting", "variant", "task", "by", "optimizer", "options")
"""Columns of text, also where it looks like a number."""


def write(folder: Path, table: pd.DataFrame, content: dict[str, Any]) -> None:
    """Write the table and the fields of the selection, each whole or not at all."""
    text = table.to_csv(index=False).encode()
    with disk.whole(folder / TABLE) as file:
        file.write(text)
    fields = {**content, CHECKSUM: zlib.crc32(text)}
    disk.write_json(folder / SELECTION, disk.sealed(fields))


def read(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table and the fields of the selection.

    Raises:
      OSError: there are none, or they cannot be read.
      ValueError: one of them is damaged.
    """
    text = (folder / TABLE).read_bytes()
    content = disk.read_json(folder / SELECTION)
    if content.pop(CHECKSUM, zlib.crc32(text)) != zlib.crc32(text):
        raise ValueError(f"{TABLE} is not the one that {SELECTION} is of")
    table = pd.read_csv(
        io.BytesIO(text),
        dtype=dict.fromkeys(WORDS, str),
        keep_default_na=False,
        na_values={"validation": [""]},
        converters={"learning_rate": float},  # exactly, as in the records
    )
    return table, content
