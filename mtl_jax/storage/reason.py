"""Reasons: what an error of foreign code says, as part of a message of ours."""

import re

OBJECT = re.compile(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>")
"""Text of an object that has no other: its type and place in memory."""
LONGEST = 300
"""Characters of a reason."""


def of(error: BaseException) -> str:
    """Return the kind of an error and what it says.

    >>> of(OSError("cannot identify image file <_io.BytesIO object at 0x7f3972c780a0>"))
    'OSError: cannot identify image file'
    """
    return f"{type(error).__name__}: {text(error)}".removesuffix(": ")


def text(error: BaseException) -> str:
    """Return the first line of what an error says, without addresses in memory."""
    lines = OBJECT.sub("", str(error)).strip().splitlines()
    return lines[0][:LONGEST] if lines else ""
