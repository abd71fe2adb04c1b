"""README is a door, and every public name has an example or a page."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIMIT = 220
"""Lines of README."""
ROOMS = (
    "mtl_jax",
    *(f"mtl_jax.{room}" for room in ("smto", "metrics", "gradients")),
    *(f"mtl_jax.{room}" for room in ("analysis", "report")),
)
NAMES = [
    (room, name) for room in ROOMS for name in importlib.import_module(room).__all__
]


def code(page):
    """Return the blocks of code and the names in backticks of a page."""
    return re.findall(r"^```.*?^```$|`[^`\n]+`", page, re.M | re.S)


def examples(module):
    """Return the lines of doctests in a module."""
    return re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", module, re.M)


@pytest.fixture(scope="module")
def shown():
    """Words of code on pages, and of examples in docstrings of the package."""
    parts = [part for path in PAGES for part in code(path.read_text())]
    for path in (ROOT / "mtl_jax").rglob("*.py"):
        parts += examples(path.read_text())
    return set(re.findall(r"\w+", "\n".join(parts)))


@pytest.mark.parametrize(("room", "name"), NAMES, ids=[".".join(n) for n in NAMES])
def test_a_public_name_has_an_example_or_a_page(room, name, shown):
    del room
    assert name in shown


def test_readme_is_a_door():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= LIMIT


def test_readme_opens_with_its_two_commands():
    blocks = re.findall(
        r"^```(\w*)\n.*?^```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert blocks[:2] == ["sh", "sh"]
    assert blocks.count("sh") == 2
