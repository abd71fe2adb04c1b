"""The wheel is whole and works alone, and extras are spelled as packages spell them."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mtl_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSIDE = {
    "mtl_jax": "mtl_jax",
    "configs": "mtl_jax/configs",
    "experiments": "mtl_jax/experiments",
}
"""Places of the checkout's folders in a wheel."""
EXTRAS = PROJECT["project"]["optional-dependencies"]
WITH_EXTRAS = [
    match.groups()
    for line in [*PROJECT["project"]["dependencies"], *sum(EXTRAS.values(), [])]
    if (match := re.match(r"([\w-]+)\[(.*?)\]", line))
]


# Old versions of pip take no other spelling.
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Unpack the wheel where no checkout is."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in INSIDE:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    build = "from setuptools.build_meta import build_wheel; build_wheel('wheels')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, timeout=120)
    (path,) = (source / "wheels").glob("*.whl")
    zipfile.ZipFile(path).extractall(target)
    return target


def run(wheel, folder, *words):
    """Run ``mtl-jax`` of the wheel, in a folder."""
    code = "from mtl_jax.experiments.dispatch import main; main()"
    return subprocess.run(  # -P: as a script in bin/, which does not see the folder
        [sys.executable, "-P", "-c", code, *words], cwd=folder, timeout=120,
        env={**os.environ, "PYTHONPATH": str(wheel)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_wheel_holds_the_package_and_nothing_beside_it(wheel):
    info = f"mtl_jax-{mtl_jax.__version__}.dist-info"
    assert {path.name for path in wheel.iterdir()} == {"mtl_jax", info}
    expected = {
        Path(INSIDE[folder], path.relative_to(ROOT / folder))
        for folder in INSIDE
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".typed", ".jinja", ".js")
    }
    assert len(expected) > 100
    files = (wheel / "mtl_jax").rglob("*.*")
    assert {path.relative_to(wheel) for path in files} == expected


def test_wheel_has_the_version_and_the_program(wheel):
    (metadata,) = importlib.metadata.distributions(path=[str(wheel)])
    assert metadata.version == mtl_jax.__version__
    (program,) = metadata.entry_points
    assert (program.group, program.name) == ("console_scripts", "mtl-jax")
    assert program.value == "mtl_jax.experiments.dispatch:main"


def test_shipped_config_by_name_without_a_checkout(wheel, tmp_path):
    done = run(wheel, tmp_path, "sweep", "--config=digits", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  base.setting='digits'\n" in done.stdout
    assert "  grid.points=10  # log-spaced steps" in done.stdout


def test_config_of_ones_own_without_a_checkout(wheel, tmp_path):
    (tmp_path / "my_module.py").write_text("STEPS = 77")
    (tmp_path / "my_config.py").write_text(
        "from mtl_jax.configs import default\nfrom my_module import STEPS\n\n"
        "def get_config():\n    config = default.get_config()\n"
        "    config.steps = STEPS\n    return config\n"
    )
    done = run(wheel, tmp_path, "train", "--config=my_config.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  steps=77  # the same for single and multi" in done.stdout
