"""Examples in docstrings as blocks of code: Markdown would take ``>>>`` for quotes."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:\1(?=\S).*\n?|\1 .*\n?)*", re.M)
"""An example with its output: up to the next empty line, as doctest has it."""


class FenceExamples(griffe.Extension):
    """Put examples in fences, before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    indent, block = match[1], match[0].rstrip("\n")
    return f"{indent}```pycon\n{block}\n{indent}```\n"
