import os
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest

from mtl_jax.storage import manifest, records
from mtl_jax.storage.records import Row
from mtl_jax.types import InputError


def row(step=3, **changes):
    made = Row(
        "digits", "multi", 0, 1, 1e-3, 32, "sum", step, 0.5, "test", "a", "loss", 2
    )
    return made._replace(**changes)


def test_rows_come_back_by_step(tmp_path):
    for step in (10, 2, 3_000_000_000):
        records.write(tmp_path, step, [row(step), row(step, task="b", value=np.nan)])
    df = records.read(tmp_path)
    assert list(df.columns) == list(Row._fields)
    assert df["step"].tolist() == [2, 2, 10, 10, 3_000_000_000, 3_000_000_000]
    assert df["task"].tolist() == ["a", "b"] * 3
    assert df["value"].isna().tolist() == [False, True] * 3
    assert df["value"].dtype == np.float64
    assert df["run"].dtype == np.int64


def test_parts_of_before_declare_nothing(tmp_path):
    """Read a run that an older version began: parts lack the newest columns."""
    for step in (1, 2):
        records.write(tmp_path, step, [row(step, direction=-1, unit="nats")])
    (tmp_path / manifest.FILE).unlink()
    path = tmp_path / records.FOLDER / f"{1:010d}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["direction", "unit"]), path)
    df = records.read(tmp_path)
    assert df["direction"].tolist() == [0, -1] and df["direction"].dtype == np.int64
    assert df["unit"].tolist() == ["", "nats"]
    records.merge(tmp_path, 1, [row(1, task="b", direction=-1, unit="nats")])
    assert records.read(tmp_path)["direction"].tolist() == [0, -1, -1]


def test_no_records(tmp_path):
    with pytest.raises(InputError, match="holds no records; name the --workdir"):
        records.read(tmp_path)


def test_same_step_is_replaced(tmp_path):
    records.write(tmp_path, 3, [row(), row(task="b")])
    records.write(tmp_path, 3, [row(value=7.0)])
    assert records.read(tmp_path)["value"].tolist() == [7.0]


@pytest.mark.parametrize("place", ["write_table", "fsync", "replace"])
def test_crash_leaves_old_rows_or_new_ones(tmp_path, monkeypatch, place):
    records.write(tmp_path, 3, [row(value=1.0)])

    def crash(*arguments, **_):
        if place == "write_table":  # in the middle of the file
            arguments[1].write(b"PAR1")
        raise KeyboardInterrupt

    owner = {"write_table": pq, "fsync": os, "replace": type(tmp_path)}[place]
    monkeypatch.setattr(owner, place, crash)
    with pytest.raises(KeyboardInterrupt):
        records.write(tmp_path, 3, [row(value=2.0)])
    monkeypatch.undo()
    assert records.read(tmp_path)["value"].tolist() == [1.0]
    assert len(list((tmp_path / records.FOLDER).iterdir())) == 2
    records.drop_after(tmp_path, 3)
    assert [p.name for p in (tmp_path / records.FOLDER).iterdir()] == [
        "0000000003.parquet"
    ]


def test_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def noted(name, function):
        return lambda *arguments: (calls.append(name), function(*arguments))[1]

    monkeypatch.setattr(os, "fsync", noted("fsync", fsync))
    monkeypatch.setattr(type(tmp_path), "replace", noted("replace", replace))
    records.write(tmp_path, 3, [row()])
    # The part as a draft; the manifest, its name and its folder's entry; that of the
    # part.
    named = ["replace", "fsync"]
    assert calls == ["fsync", "fsync", *named, *named]


def test_readers_see_whole_parts_while_a_run_writes(tmp_path):
    """Find a part with all its rows, old or new ones, or not at all."""
    records.write(tmp_path, 0, [row(0)])

    looked = threading.Semaphore(0)

    def write():
        for step in range(1, 60):
            if step % 5 == 0:  # some reads fall between steps, however slow they are
                assert looked.acquire(timeout=60)
            records.write(tmp_path, step, [row(step), row(step, task="b")])
            records.merge(tmp_path, step - 1, [row(step - 1, value=3.0)])

    writer = threading.Thread(target=write)
    writer.start()
    seen = [1]
    while writer.is_alive():
        df = records.read(tmp_path)
        assert df["step"].is_monotonic_increasing
        assert set(df[df["step"] > 0].groupby("step").size()) <= {2}
        seen.append(len(df))
        looked.release()
    writer.join()
    assert seen == sorted(seen) and len(set(seen)) > 3


@pytest.mark.parametrize(
    ("step", "left"), [(-1, []), (0, [0]), (4, [0, 3]), (9, [0, 3, 9])]
)
def test_drop_after(tmp_path, step, left):
    for written in (0, 3, 9):
        records.write(tmp_path, written, [row(written)])
    (tmp_path / records.FOLDER / "0000000003.unfinished").write_bytes(b"PAR1")
    records.drop_after(tmp_path, step)
    names = sorted(path.name for path in (tmp_path / records.FOLDER).iterdir())
    assert names == [f"{kept:010d}.parquet" for kept in left]


def test_drop_after_where_nothing_was_written(tmp_path):
    records.drop_after(tmp_path, -1)
    assert not list(tmp_path.iterdir())
