"""A folder of files as tasks."""

import numpy as np
import pandas as pd
import pytest

from mtl_jax.data import folder
from mtl_jax.types import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), np.arange(20) % 3


def frame(**columns):
    return pd.DataFrame({**{f"x{i}": X[:, i] for i in range(3)}, **columns})


def test_files_of_all_kinds(tmp_path):
    split = np.repeat(["train", "validation", "test"], [12, 4, 4])
    np.savez(tmp_path / "arrays.npz", x=X, y=Y, split=split)
    frame(y=Y / 3, split=split).to_parquet(tmp_path / "numbers.parquet")
    frame(y=Y, split=split).to_feather(tmp_path / "table.arrow")
    (tmp_path / "notes.txt").write_text("no task")
    dataset = folder.load(str(tmp_path))
    assert dataset.tasks == ("arrays", "numbers", "table")
    assert dataset.widths == (3, 1, 3)
    assert [len(rows) for rows in dataset.rows["test"]] == [4, 4, 4]
    for rows in dataset.rows["train"]:
        np.testing.assert_allclose(dataset.x[rows], X[:12], rtol=1e-6)
    assert set(dataset.provenance["sources"]["folder"]["files"]) == {
        "arrays.npz", "numbers.parquet", "table.arrow"
    }  # fmt: skip


def test_splits_are_dealt_by_the_seed(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    first, same, other = (folder.load(str(tmp_path), seed) for seed in (0, 0, 1))
    assert [len(rows[0]) for rows in first.rows.values()] == [14, 2, 4]
    np.testing.assert_array_equal(first.x, same.x)
    assert (first.x != other.x).any()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "a.npz has no 'y'"),
        ({"x": X, "y": Y, "split": ["tarin"] * 20}, r"split holds \['tarin'\]; the sp"),
        ({"x": X, "y": Y[:3]}, "20 inputs, 3 targets"),
        ({"x": X, "y": np.array([{}] * 20)}, "a.npz cannot be read"),
    ],
)
def test_files_that_are_no_task(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        folder.load(str(tmp_path))


def test_damaged_and_text(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="a.parquet cannot be read"):
        folder.load(str(tmp_path))
    frame(y=Y, x3=["a"] * 20).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'x3' holds no numbers; encode it"):
        folder.load(str(tmp_path))


@pytest.mark.parametrize("path", ["", "missing"])
def test_no_folder(tmp_path, path):
    with pytest.raises(InputError, match="of tasks is not there; name one by --config"):
        folder.load(str(tmp_path / path) if path else path)
    with pytest.raises(InputError, match="holds no task; put a file"):
        folder.load(str(tmp_path))
