"""Names and first words: what a reader meets first says what a thing is."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

import mtl_jax

ROOT = Path(mtl_jax.__path__[0]).parent
FILES = [
    path
    for folder in ("mtl_jax", "configs", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PRONOUNS = {"found", "own", "one", "every"}
"""No names: they say that something was found, not what it is."""
NO_OPENINGS = {"What", "Of", "Whether", "How", "Where", "Why", "That", "Which"}
"""First words of a docstring that repeat no noun and name no action."""


def bound(node):
    """Names that a node binds."""
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [node.asname] if isinstance(node, ast.alias) else []


def docstrings(tree):
    """Docstrings of modules, classes, functions, and behind names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
        body = getattr(node, "body", None)
        for before, after in pairwise(body if isinstance(body, list) else []):
            is_name = isinstance(before, ast.Assign | ast.AnnAssign)
            if is_name and isinstance(after, ast.Expr):
                value = getattr(after.value, "value", "")
                yield value if isinstance(value, str) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_nouns_and_docstrings_open_with_what_is_done(path):
    tree = ast.parse(path.read_text())
    names = {name for node in ast.walk(tree) for name in bound(node)}
    assert not names & PRONOUNS
    openings = {text.split()[0] for text in docstrings(tree) if text.split()}
    assert not openings & NO_OPENINGS
