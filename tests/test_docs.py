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


def examples(text):
    """Return the lines of doctests."""
    return re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", text, re.M)


@pytest.fixture(scope="module")
def shown():
    """Words of pages, and of examples in docstrings of the package."""
    texts = [path.read_text() for path in PAGES]
    for path in (ROOT / "mtl_jax").rglob("*.py"):
        texts += examples(path.read_text())
    return set(re.findall(r"\w+", "\n".join(texts)))


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
