"""JSON files of others: read with limits, whatever editor has saved them."""

import json
from pathlib import Path
from typing import Any

LARGEST = 2**24
"""Bytes; the largest one that is read, a vocabulary of RoBERTa, is of 1 MB."""


def read(path: Path) -> Any:
    """Return what a JSON file holds, in UTF-8, -16 or -32, with or without its mark.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged, too large, or nested too deeply.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
