"""A report that is written while a run goes on."""

import contextlib

import pytest

from mtl_jax import report
from mtl_jax.storage import lock, records
from mtl_jax.storage.records import Row
from mtl_jax.types import InputError
from tests import workdirs

REFRESH = '<body data-refresh="30">'


def test_it_follows_a_run_to_its_end(tmp_path):
    rows = workdirs.trajectories(factors=(), steps=(0, 1, 10, 100))
    early = [row for row in rows if row["step"] < 100]
    folder = workdirs.write(tmp_path / "run", early)
    pages, said = [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.hold(folder))

        def sleep(seconds):
            assert seconds == 30
            page = folder / "report" / "index.html"
            pages.append((page.read_text(), page.stat().st_mtime_ns))
            if len(pages) == 2:
                late = [Row(**row) for row in rows if row["step"] == 100]
                records.write(folder, 100, late)
            if len(pages) == 3:
                stack.close()

        last = report.watch([folder], seconds=30, say=said.append, sleep=sleep)
    first, unchanged, changed = pages
    assert REFRESH in first[0] and REFRESH in changed[0]
    assert first == unchanged and first[0] != changed[0]
    assert "<body>" in last.read_text()
    assert "until Ctrl-C" in said[0] and "any more" in said[1]


def test_a_run_without_records_is_waited_for_while_somebody_makes_them(tmp_path):
    waited = []

    def sleep(_):
        waited.append(1)
        if len(waited) == 3:
            raise KeyboardInterrupt

    with lock.hold(tmp_path), pytest.raises(KeyboardInterrupt):
        report.watch([tmp_path], seconds=1, sleep=sleep)
    with pytest.raises(InputError, match="holds no records"):
        report.watch([tmp_path], seconds=1, sleep=sleep)
    assert not lock.is_held(tmp_path) and not lock.is_held(tmp_path / "none")
