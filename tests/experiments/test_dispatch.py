"""The program's commands: listed, run, or one message that says which there are."""

import subprocess
import sys

import pytest

import mtl_jax
from experiments import dispatch
from tests import small
from tests.experiments.test_bad_input import only_message


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_commands_are_listed(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["mtl-jax", *words])
    dispatch.main()
    lines = capsys.readouterr().out.splitlines()
    for command in dispatch.COMMANDS:
        (line,) = (line for line in lines if line.split()[:1] == [command])
        assert line.split(maxsplit=1)[1] == dispatch.summary(command)


def test_all_entry_points_are_commands():
    modules = (small.ROOT / "experiments").rglob("*.py")
    starts = [path for path in modules if "entry.main(" in path.read_text("utf-8")]
    names = [p.parent.name if p.stem == "__main__" else p.stem for p in starts]
    assert sorted(set(names) - {"dispatch"}) == sorted(dispatch.COMMANDS)


def test_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mtl-jax", "--version"])
    dispatch.main()
    assert capsys.readouterr().out == f"mtl-jax {mtl_jax.__version__}\n"


def test_unknown_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mtl-jax", "trian", "--config=digits"])
    with pytest.raises(SystemExit) as ended:
        dispatch.main()
    message = only_message(ended.value.code, *capsys.readouterr())
    assert "'trian' is not one of: train, sweep, " in message
    assert message.endswith("did you mean 'train'?")


def test_command_runs_with_its_flags():
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "report", "--workdir=/none"],
        cwd=small.ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    message = only_message(done.returncode, done.stdout, done.stderr)
    assert message.startswith("error: /none holds no records, it is not there; ")
