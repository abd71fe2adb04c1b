"""Ends of commands: with a code, and with one message where it is not their fault."""

import errno
import io
import os
import signal
import sys

import jax
import pytest

from experiments import entry


@pytest.fixture
def end(monkeypatch):
    """Exit code of a command that does one thing."""
    monkeypatch.setattr(entry.command_line, "parse", lambda *_: None)
    monkeypatch.setattr(entry, "_prepare_jax", lambda: None)
    monkeypatch.setattr(sys, "argv", ["command"])

    def run(action):
        with pytest.raises(SystemExit) as ended:
            entry.main(action, "")
        return ended.value.code

    return run


def failing(error):
    def run():
        raise error

    return run


def test_error_of_the_system_names_the_file(end, capsys):
    error = OSError(errno.EIO, "Input/output error", "/data/images.gz")
    assert end(failing(error)) == entry.INPUT_ERROR
    said = "error: /data/images.gz: Input/output error; mend that and try again.\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("error", [OSError("of a program"), ValueError("wrong")])
def test_error_of_a_program_is_told_whole(end, capsys, error):
    assert end(failing(error)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_reader_that_went_away(end, capfd, monkeypatch):
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    code = end(failing(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert code == 128 + signal.SIGPIPE
    assert capfd.readouterr() == ("", "")


def test_letters_that_the_locale_cannot_write_to_a_file(end, capsys):
    error = UnicodeEncodeError("ascii", "caf\xe9", 3, 4, "ordinal not in range")
    assert end(failing(error)) == entry.INPUT_ERROR
    (message,) = capsys.readouterr().err.splitlines()
    assert "'caf\\xe9'" in message and "PYTHONUTF8=1" in message


def test_letters_that_the_screen_cannot_show_are_spelt(end, monkeypatch):
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii"))
    assert end(lambda: print("caf\xe9 \udcc3", flush=True)) is None
    assert screen.getvalue() == b"caf\\xe9 \\udcc3\n"


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Collect what the commands set of JAX, by name."""
    values: dict[str, object] = {}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setattr(entry.compilation_cache, "mend", lambda _: None)
    monkeypatch.setattr(jax.config, "update", values.__setitem__)
    return values


def test_a_device_per_core(chosen, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    entry._prepare_jax()
    folder = str(tmp_path / "mtl_jax" / "xla")
    expected = {"jax_num_cpu_devices": 3, "jax_compilation_cache_dir": folder}
    assert chosen == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("XLA_FLAGS", "--xla_dump_to=x --xla_force_host_platform_device_count=8"),
        ("JAX_NUM_CPU_DEVICES", "8"),
    ],
)
def test_as_many_devices_as_were_asked_for(chosen, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    entry._prepare_jax()
    assert "jax_num_cpu_devices" not in chosen


def test_no_home(chosen, monkeypatch):
    monkeypatch.setattr(entry.compilation_cache, "folder", lambda: None)
    entry._prepare_jax()
    assert list(chosen) == ["jax_num_cpu_devices"]
