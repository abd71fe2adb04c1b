import json

import pytest

from mtl_jax.storage import provenance

DATA = {"checksum": 17, "seed": 0}


def test_sessions_add_up(tmp_path):
    provenance.add_session(tmp_path, 0, DATA)
    provenance.add_session(tmp_path, 7, DATA)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert stored["data"] == DATA
    assert [session["from_step"] for session in stored["sessions"]] == [0, 7]


def test_no_git_no_revision(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance.add_session(tmp_path, 0, DATA)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert stored["sessions"][0]["git_revision"] is None


SHAPES = [
    *("", "{", "null", "[]", "{}", '{"sessions": 3}', '{"sessions": [3]}'),
    '{"sessions": [{"seconds": [1]}]}',
    '{"sessions": [{"seconds": {"training": "long"}}]}',
    '{"sessions": [{"devices": 2}]}',
    '{"sessions": [{"throughput": {"steps": "many"}}]}',
    '{"sessions": [{"versions": "1"}]}',
    '{"sessions": [{"started": null}]}',
    "[" * 10**5,
]


@pytest.mark.parametrize("content", SHAPES)
def test_what_cannot_be_read_is_set_aside(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert provenance.sessions(tmp_path) == []
    provenance.note(tmp_path, seconds={"training": 1.0})
    assert (tmp_path / "run.json").read_text() == content
    provenance.add_session(tmp_path, 7, DATA)
    provenance.note(tmp_path, seconds={"training": 1.0})
    (session,) = provenance.sessions(tmp_path)
    assert session["from_step"] == 7 and session["seconds"] == {"training": 1.0}
    assert (tmp_path / "run.damaged").read_text() == content


def test_numbers_that_were_edited_are_not_believed(tmp_path):
    provenance.add_session(tmp_path, 7, DATA)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"from_step": 7', '"from_step": 9'))
    assert provenance.sessions(tmp_path) == []
