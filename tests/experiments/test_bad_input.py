"""Mistakes end with exit code 2 and one message that says what to do."""

import gzip
import json
import os
import re
import resource
import shutil
import struct
import subprocess

import pytest

from mtl_jax.storage import records
from tests import small

SECONDS = 60
"""After which a mistake counts as not found."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def finished(folder):
    """Train into a workdir with two checkpoints."""
    return small.run(folder / "finished", variants=("multi",)).path


@pytest.fixture
def complain(tmp_path, monkeypatch):
    """Run the entry point on a mistake and return its one message."""
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))

    def run(arguments, free=None):
        log = tmp_path / "log"
        process = small.fork(arguments, log, free)
        process.join(SECONDS)
        alive = process.is_alive()
        process.kill()
        assert not alive
        return only_message(
            process.exitcode, (log / "out").read_text(), (log / "err").read_text()
        )

    return run


def only_message(code, out, err):
    assert "Traceback" not in err
    assert code == 2, err
    assert out == ""
    (message,) = err.splitlines()
    assert message.startswith("error: ")
    return message


# Field, value as it is typed, and what the message must hold: value, limit, remedy.
VALUES = [
    ("nonsense", "1", "no such field.*nonsense.*--help"),
    ("model.mlp.nonsense", "1", "no such field.*nonsense.*--help"),
    ("model.nonsense.widths", "1", "no such field.*nonsense.*--help"),
    ("model.weights", "/none.pt", "weights /none.pt .*MLP; choose resnet"),
    ("steps", "many", "config.steps.*many"),
    ("steps", "1.5", "config.steps.*1.5"),
    ("steps", "0", "steps is 0; .*at least 1"),
    ("steps", "-5", "steps is -5; .*at least 1"),
    ("setting", "imagenet", "'imagenet' is not one of: digits"),
    ("smto.name", "sgd", "'multi-sgd' is not .*pcgrad"),
    ("variants", "('single','twice')", "'twice' is not 'single'"),
    ("variants", "('multi-sgd',)", "'multi-sgd' is not .*pcgrad"),
    ("variants", "('multi','multi')", "'multi' is named twice; name it once"),
    ("variants", "()", "variants is empty; name at least one"),
    ("variants", "1,2", "variant 1 is no name"),
    ("variants", "single,mutli", "'mutli' is not .*did you mean 'multi'"),
    ("variants", "pcgard", "'pcgard' is not .*did you mean 'multi-pcgrad'"),
    ("evaluate", "tset", "'tset' is not one of: probe.*did you mean 'test'"),
    ("evaluate", "()", "evaluate is empty; name some of probe"),
    (
        "augmentations",
        "flop",
        "augmentations 'flop' is not one of: flip.*did you mean 'flip'",
    ),
    ("seeds", "()", r"seeds are \(\); name at least one"),
    ("seeds", "(1,1)", r"seeds are \(1, 1\); .*each once"),
    ("seeds", "(-1,)", r"seeds are \(-1,\); .*none negative"),
    ("seeds", "(0.5,)", r"seeds are \(0.5,\); .*whole number"),
    ("seeds", "('a',)", r"seeds are \('a',\); .*whole number"),
    ("seeds", "0,a,1", "'a' is unfit: .*whole number"),
    ("seeds", "(True,)", "True is unfit: .*whole number"),
    ("seeds", "(4294967296,)", r"seeds are \(4294967296,\)"),
    ("batch_size", "300", "batch_size 300 is larger .* 299 examples; choose at most"),
    ("batch_size", "0", "batch_size is 0; .*at least 1"),
    ("probe_size", "0", "probe_size is 0; .*at least 1"),
    ("chunk", "2", "--config.chunk is called --config.steps_per_dispatch now"),
    ("steps_per_dispatch", "0", "steps_per_dispatch is 0; .*at least 1"),
    ("eval_batch_size", "0", "eval_batch_size is 0; .*at least 1"),
    ("data_parallel", "0", "data_parallel is 0, and there .* devices; choose 1 or"),
    ("data_parallel", "16", "data_parallel is 16, and there .* divides them"),
    ("learning_rates", "()", r"learning_rates are \(\); name at least one"),
    ("learning_rates", "(0.0,)", r"learning_rates are \(0.0,\); .*positive"),
    ("learning_rates", "(-1e-3,)", r"learning_rates are \(-0.001,\); .*positive"),
    ("learning_rates", "(nan,)", "learning_rates are .*nan.*positive"),
    ("learning_rates", "(1e999,)", r"learning_rates are \(inf,\); .*positive"),
    ("learning_rates", "('fast',)", r"learning_rates are \('fast',\)"),
    ("learning_rates", "1e-3,fast", "'fast' is unfit: .*positive"),
    ("learning_rates", "1e-3,1e-3", "0.001 is there twice: .*each once"),
    ("model.name", "vit", "'vit' is not one of: cnn, deeplab, lenet"),
    ("model.mlp.widths", "()", r"mlp widths are \(\); give positive"),
    ("model.mlp.widths", "(16,0)", r"mlp widths are \(16, 0\); 0 is unfit.*positive"),
    ("model.mlp.widths", "16,a", "mlp widths are .*'a' is unfit: .*whole numbers"),
    ("model.mlp.widths", "1.5", "mlp widths are .*1.5 is unfit: .*whole numbers"),
    ("optimizer.name", "lino", "'lino' is not one of: .*adam"),
    ("optimizer.adam.b1", "1.5", "optimizer.adam.b1 is 1.5; .*below 1"),
    ("data.relation", "distant", "'distant'.* same, transformed"),
    ("data.tasks", "1", "1 tasks of digits; choose 2 to 10"),
    ("data.tasks", "11", "11 tasks of digits; choose 2 to 10"),
    ("data.seed", "-1", "data.seed is -1; .*not be negative"),
    ("smto.head_grad", "none", "'none' is not one of: default, weighted"),
    ("smto.reduction", "max", "'max' is not one of: sum, mean"),
    ("run_map", "pmap", "'pmap' is not one of: auto, vmap"),
    ("task_map", "pmap", "'pmap' is not one of: auto, vmap"),
    ("checkpoint.every", "0", "checkpoint.every is 0; .*at least 1"),
    ("checkpoint.keep_last", "0", "checkpoint.keep_last is 0; keep at least 1"),
    ("trajectory.dense", "-1", "trajectory.dense is -1 .*must not be negative"),
    ("trajectory.count", "-1", "trajectory.count -1; .*must not be negative"),
    ("trajectory.epochs", "-1", "trajectory.epochs is -1.*a positive number, or 0"),
    ("groups.sets", "0", "groups.sets is 0; it must be .*at least 1"),
    (
        "variants",
        "multi:digits_0/digits_9",
        "'digits_0/digits_9' has no task 'digits_9'",
    ),
    ("trajectory.loss_levels", "(0.0,)", r"loss_levels are \(0.0,\); .*positive"),
    ("trajectory.loss_levels", "('low',)", r"loss_levels are \('low',\)"),
]


@pytest.mark.parametrize(("field", "value", "pattern"), VALUES)
def test_value(tmp_path, complain, field, value, pattern):
    workdir = tmp_path / "run"
    changes = {"smto.reduction": "sum", "variants": "('multi-mgda',)", field: value}
    message = complain(small.arguments(workdir, **changes))
    assert re.search(pattern, message), message
    assert not (workdir / "records").exists()


# The same, where two fields make the mistake.
PAIRS = [
    ({"model.cnn.kernel_size": 4}, "kernel_size 4.*must be .*odd"),
    ({"model.cnn.channels": "()"}, r"channels are \(\).*positive"),
    ({"model.cnn.channels": "(8,8,8,8)"}, "2x2 pool cannot halve; choose"),
    ({"model.cnn.hidden": -1}, "hidden -1.*positive"),
    ({"model.cnn.conv": "fft"}, "'fft' is not one of: auto, lax"),
    ({"model.cnn.padding": "wide"}, "'wide' is not one of: same, valid"),
    ({"smto.name": "fixed"}, r"0 weights \[\] for 3 tasks; pass one"),
    ({"smto.name": "fixed", "smto.fixed.weights": "(1.,2.)"}, "2 weights.* 3 tasks"),
    ({"smto.name": "fixed", "smto.fixed.weights": "(1.,2.,-3.)"}, "not negative"),
    ({"smto.name": "fixed", "smto.fixed.weights": "('a',)"}, "must be numbers"),
    ({"smto.name": "cagrad", "smto.cagrad.c": -0.1}, "c is -0.1; .* at least 0"),
    ({"smto.name": "cagrad", "smto.cagrad.rescale": 3}, "rescale 3 is not one of"),
    ({"data_parallel": 2, "batch_size": 15}, "batch_size 15 .*split.* 2; choose a"),
    ({"data_parallel": 2, "eval_batch_size": 15}, "eval_batch_size 15 .*split"),
    ({"setting": "fashion_mtl", "data.source": "web"}, "source 'web'.* auto, tfds"),
]


@pytest.mark.parametrize(("changes", "pattern"), PAIRS)
def test_values_together(tmp_path, complain, changes, pattern):
    model = "cnn" if "model" in str(changes) else "mlp"
    changes = {"model.name": model, **changes}
    message = complain(small.arguments(tmp_path / "run", **changes))
    assert re.search(pattern, message), message


def images(count=10, side=28):
    return struct.pack(">4I", 2051, count, side, side) + bytes(count * side * side)


def labels(count=10, label=1):
    return struct.pack(">2I", 2049, count) + bytes([label] * count)


# What is wrong with the files, the file's content, and what the message must hold.
DAMAGES = {
    "missing": ("labels", None, "no train split in .*official files there"),
    "truncated": ("images", images()[:-1], "holds 7855 bytes.* promises 7856"),
    "header only": ("images", images()[:9], "copy the official file again"),
    "empty": ("labels", b"", "labels-idx1-ubyte.*official file"),
    "not idx": ("images", b"<html>not found</html>" * 9, "magic number.*2051"),
    "shape": ("images", images(side=32), "32x32 pixels, expected 28x28"),
    "label": ("labels", labels(label=10), r"label 10 at place 0, expected 0\.\.9"),
    "count": ("labels", labels(count=9), "9 labels, but .* 10 images"),
    "few": ("labels", labels(), "10 train examples in .*expected 60000"),
    "corrupt gz": ("images.gz", gzip.compress(images())[:-9], "cannot be read .*gzip"),
    "not gz": ("images.gz", images(), "cannot be read .*gzip"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_data(tmp_path, complain, damage):
    data = tmp_path / "data" / "fashion_mnist"
    data.mkdir(parents=True)
    place, content, pattern = DAMAGES[damage]
    kind, _, ending = place.partition(".")
    names = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
    for stem in ("train", "t10k"):
        for part, sound in (("images", images()), ("labels", labels())):
            if ending:
                (data / f"{stem}-{names[part]}.gz").write_bytes(gzip.compress(sound))
            else:
                (data / f"{stem}-{names[part]}").write_bytes(sound)
    wrong = data / f"train-{names[kind]}{'.gz' if ending else ''}"
    wrong.unlink()
    if content is not None:
        wrong.write_bytes(content)
    changes = {"setting": "fashion_mtl", "data.dir": data.parent}
    message = complain(small.arguments(tmp_path / "run", **changes))
    assert re.search(pattern, message), message
    assert str(data) in message


@pytest.mark.parametrize("setting", ["fashion_mtl", "mnists"])
def test_data_folder_that_is_not_there(tmp_path, complain, setting):
    changes = {"setting": setting, "data.dir": tmp_path / "nowhere"}
    message = complain(small.arguments(tmp_path / "run", **changes))
    assert "nowhere" in message
    assert "Put the official files there" in message
    assert "tfds build" in message
    assert "--config.data.dir" in message


def test_file_in_the_place_of_the_workdir(tmp_path, complain):
    path = tmp_path / "run"
    path.write_text("")
    message = complain(small.arguments(path))
    assert re.search(f"{path} cannot be written to.*choose another", message)


@pytest.mark.parametrize("name", ["records", "checkpoints", "config.json"])
def test_thing_in_the_place_of_a_part_of_the_workdir(tmp_path, complain, name):
    """Put a file where a folder should be, or the other way round."""
    path = tmp_path / "run"
    path.mkdir()
    (path / name).mkdir() if "." in name else (path / name).write_text("")
    message = complain(small.arguments(path, variants="('multi',)"))
    assert str(path) in message


def test_workdir_of_another_config(tmp_path, complain, finished):
    path = shutil.copytree(finished, tmp_path / "run")
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    message = complain(small.arguments(path, variants="('multi',)", batch_size=8))
    assert re.search("another configuration: batch_size was 16, now 8.*Choose", message)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_workdir_with_other_data(tmp_path, complain, finished):
    path = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((path / "config.json").read_text())
    config["data (its contents)"] += 1
    (path / "config.json").write_text(json.dumps(config))
    message = complain(small.arguments(path, variants="('multi',)"))
    assert re.search(r"data \(its contents\) was \d+, now \d+.*Choose", message)


def test_config_of_the_workdir_damaged(tmp_path, complain, finished):
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "config.json").write_text('{"steps": ')
    message = complain(small.arguments(path, variants="('multi',)"))
    assert re.search("config.json cannot be read.*choose another", message)


def test_foreign_checkpoints(tmp_path, complain, finished):
    path = shutil.copytree(finished, tmp_path / "run")
    (path / "config.json").unlink()
    message = complain(small.arguments(path, variants="('multi',)"))
    assert re.search("checkpoints that are not of this program.*choose", message)


def test_all_checkpoints_damaged(tmp_path, finished):
    path = shutil.copytree(finished, tmp_path / "run")
    for file in (path / "checkpoints").rglob("d/*"):
        file.write_bytes(b"")
    log = tmp_path / "log"
    process = small.fork(small.arguments(path, variants="('multi',)"), log)
    process.join(10)
    out, err = (log / "out").read_text(), (log / "err").read_text()
    message = only_message(process.exitcode, "", err)
    assert re.search(
        r"none of the checkpoints \[12, 10\] .*delete that folder", message
    )
    assert out.count("is damaged and passed over") == 2


def test_workdir_in_use(tmp_path, complain):
    import fcntl

    path = tmp_path / "run"
    path.mkdir()
    with (path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = complain(small.arguments(path))
    assert re.search("is in use by another process; wait for it or choose", message)


def test_full_disk(tmp_path, complain):
    message = complain(small.arguments(tmp_path / "run"), free=2**20)
    assert re.search("has 1 MiB free.* needs about 1[67] MiB; free some", message)


def test_disk_that_is_full_while_a_checkpoint_is_written(tmp_path, folder):
    """Let a limit of file sizes stand for it: only checkpoints are that large."""
    del folder
    wide = {"variants": "('multi',)", "model.mlp.widths": "(1024,1024)"}
    wide |= {"seeds": "(0,)"}
    process = small.fork(small.arguments(tmp_path / "run", **wide), tmp_path / "log")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**14, 2**14))
    process.join(60)
    err = (tmp_path / "log" / "err").read_text()
    assert process.exitcode == 2, err
    assert "Traceback" not in err and "Task exception" not in err
    said = "^error: cannot write to .*checkpoints: .*too large.*; free space .* again"
    assert re.search(said, err, re.MULTILINE), err
    assert len(records.read(tmp_path / "run")) > 0


def test_missing_config_file(tmp_path, complain):
    arguments = [f"--config={tmp_path / 'no.py'}", f"--workdir={tmp_path / 'run'}"]
    pattern = "config file cannot be loaded: .*no.py is not there; one is configs/"
    assert re.search(pattern, complain(arguments))


MISTAKES = {
    "syntax": ("def get_config(:", "config.py, line 1: SyntaxError"),
    "import": ("import no_such_module", "config.py, line 1: .*no_such_module"),
    "name": ("\n\nget_config = nothing", "config.py, line 3: NameError: .*nothing"),
    "no get_config": ("config = 1", "config.py: AttributeError: .*get_config"),
    "returns nothing": ("def get_config():\n    pass", "ConfigDict, .* NoneType; let"),
    "error": ("def get_config():\n    return 1 / 0", "line 2: ZeroDivisionError"),
    "type": (
        "from configs import digits\n\n\ndef get_config():\n"
        "    config = digits.get_config()\n    config.steps = '1'\n    return config",
        "config.py, line 6: TypeError: .*'steps'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_config_file_that_cannot_be_loaded(tmp_path, complain, mistake):
    path = tmp_path / "config.py"
    content, pattern = MISTAKES[mistake]
    path.write_text(content)
    message = complain([f"--config={path}", f"--workdir={tmp_path / 'run'}"])
    assert re.search(pattern, message), message
    assert "Traceback" not in message


COMMANDS = {
    "name": (
        ["--config=digits", "--workdir=/tmp/never", "--config.seeds=()"],
        r"seeds are \(\)",
    ),
    "no workdir": (["--config=configs/digits.py"], "--workdir is needed, see --help"),
    "no config": (["--workdir=/tmp/never"], "--config is needed, see --help"),
    "unknown flag": (
        ["--config=configs/digits.py", "--workdir=/tmp/never", "--speed=9"],
        "unknown flag --speed, see --help",
    ),
    "stray argument": (
        ["--config=configs/digits.py", "--workdir=/tmp/never", "fast"],
        "unknown argument 'fast'; flags begin with --",
    ),
    "field": (
        ["--config=configs/digits.py", "--workdir=/tmp/never", "--config.stepps=9"],
        "no such field: stepps, see .*; did you mean --config.steps?",
    ),
    "seeds": (
        ["--config=configs/digits.py", "--workdir=/tmp/never", "--config.seeds=()"],
        r"seeds are \(\)",
    ),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_command(complain, mistake):
    arguments, pattern = COMMANDS[mistake]
    assert re.search(pattern, complain(arguments))


@pytest.mark.parametrize("mistake", ["unknown flag", "seeds"])
def test_real_command(mistake):
    """Run all of it, Python's start too, with nothing compiled on the way."""
    arguments, pattern = COMMANDS[mistake]
    done = subprocess.run(
        small.command(arguments), cwd=small.ROOT, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert re.search(pattern, only_message(done.returncode, done.stdout, done.stderr))


def test_workdir_with_letters_that_the_locale_does_not_know(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        small.command(small.arguments(tmp_path / "caf\xe9")), cwd=small.ROOT,
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **locale},
    )  # fmt: skip
    message = only_message(done.returncode, done.stdout, done.stderr)
    assert re.search(r"caf\\udcc3\\udca9.*PYTHONUTF8=1.*choose another", message)
    assert not list(tmp_path.iterdir())
