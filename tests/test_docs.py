"""README is a door, links hold, and every public name has an example or a page."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from mtl_jax import smto

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = {p.stem: p.read_text() for p in (ROOT / "docs/reference").glob("*.md")}
LIMIT = 220
"""Lines of README."""
ROOMS = (
    "mtl_jax",
    *(f"mtl_jax.{room}" for room in ("smto", "metrics", "gradients", "merging")),
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
    """Collect words of code on pages, and of examples in the package's docstrings."""
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


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text())
    for path, anchor in targets:
        target = page.parent / path if path else page
        assert target.is_file(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w]+", "-", h.lower()) for h in heads}, anchor


def test_the_reference_names_what_is_there():
    names = re.findall(r"^::: (\S+)$", "\n".join(REFERENCE.values()), re.M)
    assert len(names) == len(set(names)) > 50
    for name in names:
        pkgutil.resolve_name(name)


def test_every_method_is_in_the_reference():
    for factory in smto.SMTOS.values():
        name = f"::: {factory.__module__}.{factory.__name__}\n"
        assert name in REFERENCE["smto"]


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "mkdocs.yml").read_text()
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r": (\S+\.md)$", contents, re.M)) == pages
