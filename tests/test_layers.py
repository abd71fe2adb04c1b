"""Imports point downwards: a room knows the rooms below it and none above."""

import ast
from pathlib import Path

import pytest

import mtl_jax

ROOT = Path(mtl_jax.__path__[0])

# Rooms of one layer do not know each other. A new room must be put in its place.
LAYERS = [
    {"types"},
    {"options", "tree"},
    {"objectives", "devices"},
    {"analysis", "gradients", "storage", "console"},
    {"smto", "metrics", "merging", "data", "models", "report"},
    {"training"},
    {"studies"},
]
LAYER_OF = {room: number for number, layer in enumerate(LAYERS) for room in layer}

# What somebody else's training loop can use without the rest of the house.
FREE_STANDING = {
    "types", "options", "tree", "objectives", "devices", "gradients", "smto", "metrics",
    "merging",
}  # fmt: skip


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    """Names of modules that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            if node.module == "mtl_jax":
                yield from (f"mtl_jax.{alias.name}" for alias in node.names)
            else:
                yield node.module


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or
               path.stem != "__init__")  # fmt: skip
EDGES = [
    (path, name.split(".")[1])
    for path in FILES
    for name in imported(path)
    if name.startswith("mtl_jax.")
]


def test_every_room_has_a_layer():
    assert {room_of(path) for path in FILES} == set(LAYER_OF)


@pytest.mark.parametrize(
    ("path", "room"), EDGES, ids=[f"{p.relative_to(ROOT)}-{r}" for p, r in EDGES]
)
def test_imports_point_downwards(path, room):
    own = room_of(path)
    assert room == own or LAYER_OF[room] < LAYER_OF[own]


@pytest.mark.parametrize("room", sorted(FREE_STANDING))
def test_free_standing_rooms_need_only_each_other(room):
    assert {to for path, to in EDGES if room_of(path) == room} <= FREE_STANDING


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_the_package_knows_no_script_or_config(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"configs", "experiments", "tests"}
