"""Text files of others: read with limits, whatever editor has saved them."""

import codecs
import json
from pathlib import Path
from typing import Any

LARGEST = 2**24
"""Bytes; the largest one that is read, a vocabulary of RoBERTa, is of 1 MB."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, which editors of Windows write, and what follows them."""


def read(path: Path, largest: int = LARGEST) -> str:
    """Return the text of a file in UTF-8, or as its byte order mark says.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no text, or has more bytes than ``largest``.
    """
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest} bytes")
    marks = (mark for mark in MARKS if content.startswith(mark))
    return content.decode(MARKS.get(next(marks, b""), "utf-8"))


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged, too large, or nested too deeply.
    """
    try:
        return json.loads(read(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
