"""Extras are spelled as the packages spell them: old versions of pip take no other."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
WITH_EXTRAS = [
    match.groups()
    for line in [*PROJECT["project"]["dependencies"], *sum(EXTRAS.values(), [])]
    if (match := re.match(r"([\w-]+)\[(.*?)\]", line))
]


@pytest.mark.parametrize(("package", "extras"), WITH_EXTRAS)
def test_extras_are_there(package, extras):
    if package == PROJECT["project"]["name"]:
        known = set(EXTRAS)
    else:
        try:
            metadata = importlib.metadata.metadata(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
        known = set(metadata.get_all("Provides-Extra") or ())
    assert set(extras.split(",")) <= known
