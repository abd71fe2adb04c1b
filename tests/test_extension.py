"""Additions to the house are in their table, and on their page (docs/extend.md)."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import config_files
from mtl_jax import data, models, smto
from mtl_jax.data import LOADERS, Dataset
from mtl_jax.metrics import factors
from mtl_jax.metrics.factors.contract import PathFactor, RunFactor, TaskFactor
from mtl_jax.models.trunk import Trunk
from mtl_jax.objectives import scores
from mtl_jax.objectives.losses import OBJECTIVES
from mtl_jax.smto.contract import Method

DOCS = Path(__file__).parents[1] / "docs"
TABLES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "smto": (smto, tuple(Method.__args__), smto.SMTOS),
    "factor": (factors, (TaskFactor, RunFactor, PathFactor), factors.FACTORS),
    "trunk": (models, (Trunk,), models.TRUNKS),
    "setting": (data, (Dataset,), LOADERS),
}
"""Package, types that its factories return, and their table."""
PAGES = {
    "optimizers.md": smto.SMTOS,
    "factors.md": factors.FACTORS,
    "settings.md": [*LOADERS, *models.TRUNKS],
    "own.md": [name for name in OBJECTIVES if not name.startswith("words")],
}
"""Names that a page lists."""


def factories(package, kinds):
    """Return the public functions of a package that need no argument but data's."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        loaded = importlib.import_module(module.name)
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            signature = inspect.signature(function)
            needed = [
                p
                for p in signature.parameters.values()
                if p.default is p.empty and p.name != "directory"
            ]
            is_here = function.__module__ == module.name and not name.startswith("_")
            if is_here and not needed and signature.return_annotation in kinds:
                yield function


@pytest.mark.parametrize("kind", TABLES)
def test_a_factory_is_in_its_table(kind):
    package, kinds, table = TABLES[kind]
    made = list(factories(package, kinds))
    assert len(made) > 2
    names = [f"{function.__module__}.{function.__name__}" for function in made]
    missing = [
        name
        for name, function in zip(names, made, strict=True)
        if function not in table.values()
    ]
    assert not missing


def test_a_setting_has_a_config():
    assert set(LOADERS) <= set(config_files.shipped("train"))


def test_a_score_belongs_to_an_objective():
    known = [score for o in OBJECTIVES.values() for score in o.scores.values()]
    declared = inspect.getmembers(scores, lambda v: isinstance(v, scores.Score))
    assert len(declared) > 2
    assert not [name for name, score in declared if score not in known]


@pytest.mark.parametrize("page", PAGES)
def test_a_name_is_on_its_page(page):
    rows = re.findall(r"`(\w+)`", (DOCS / page).read_text())
    assert not set(PAGES[page]) - set(rows)


def test_scores_are_on_their_page():
    page = (DOCS / "own.md").read_text()
    for name in PAGES["own.md"]:
        (row,) = re.findall(rf"^\| `{name}` \|.*\| (.*) \|$", page, re.M)
        assert re.findall(r"`(\w+)`", row) == list(OBJECTIVES[name].scores), name
