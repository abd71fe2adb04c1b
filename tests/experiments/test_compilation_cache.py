import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from experiments import compilation_cache
from tests import small


def product(x):
    return jnp.sin(x) @ x


@pytest.fixture
def folder(tmp_path):
    """Make a cache in which a program lies."""
    with small.compiled_once(tmp_path):
        reset_cache()
        compile_once()
        yield tmp_path
    reset_cache()


def compile_once():
    jax.clear_caches()
    jax.jit(product)(jnp.ones((3, 3)))


def entry(folder) -> Path:
    (path,) = folder.glob("jit_product-*-cache")
    return path


def flip(content):
    return content[:999] + bytes([content[999] ^ 1]) + content[1000:]


DAMAGES = [lambda content: content[:-1], lambda _: b"", flip]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_written_again(folder, capsys, damage):
    entry(folder).write_bytes(damage(entry(folder).read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        compilation_cache.mend(folder)
        compile_once()
        assert entry(folder).exists()
        assert capsys.readouterr().err.count("jit_product is compiled again") == 1
        compile_once()
        assert capsys.readouterr().err == ""


def test_other_warnings_are_shown(folder):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        compilation_cache.mend(folder)
        warnings.warn("it rains", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["it rains"]
    assert entry(folder).exists()


def test_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compilation_cache.folder() == tmp_path / "cache" / "mtl_jax" / "xla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = tmp_path / "home" / ".cache" / "mtl_jax" / "xla"
    assert compilation_cache.folder() == expected and expected.is_dir()


def test_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert compilation_cache.folder() is None
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert compilation_cache.folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert compilation_cache.folder() is None
