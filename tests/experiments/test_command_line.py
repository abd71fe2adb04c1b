"""Command lines that are mistaken end with one message; --help shows what they mean."""

import os
import re
import subprocess

import pytest

from tests import small
from tests.experiments.test_bad_input import only_message

CONFIGS = small.ROOT / "configs"
TRAIN, SWEEP = f"--config={CONFIGS}/digits.py", f"--config={CONFIGS}/sweeps/digits.py"
REPRODUCE = f"--config={CONFIGS}/reproduce.py:smoke"
LONG = "x" * 300
"""A name that no file may have."""
SECONDS = 60


def ended(tmp_path, command, arguments):
    """Exit code, output and errors of an entry point."""
    process = small.fork(arguments, tmp_path / "log", command=command)
    process.join(SECONDS)
    out, err = ((tmp_path / "log" / name).read_text() for name in ("out", "err"))
    return process.exitcode, out, err


# Command, its arguments beside a workdir, and what the message must hold.
MISTAKES = [
    ("train", [SWEEP], "for sweep, not for train: give it to mtl-jax sweep"),
    ("train", [SWEEP, "--config.steps=5"], "for sweep, not for train: "),
    ("train", [REPRODUCE], "for reproduce, not for train: give it to mtl-jax repro"),
    (
        "sweep",
        [TRAIN],
        "for train, not for sweep: .* or sweep one like configs/sweeps/",
    ),
    ("reproduce", [TRAIN], "for train, not for reproduce"),
    ("reproduce", [SWEEP], "for sweep, not for reproduce"),
    ("reproduce", [REPRODUCE[:-1]], "'smok' is not one of: smoke, .* mean 'smoke'"),
    (
        "measure",
        [TRAIN],
        "measure takes the configuration of its workdir; only --config",
    ),
    ("train", [f"{TRAIN}:fast"], r"digits.py: TypeError.*get_config was passed 'fast'"),
    ("train", ["--config=configs"], "configs is a folder; one is configs/digits.py"),
    ("train", ["--config=digits.py"], "is not there; did you mean configs/digits.py"),
    ("sweep", ["--config=digit.py"], "there; did you mean configs/sweeps/digits.py"),
    ("train", ["--config=digit"], "'digit' is not one of: celeba, .* mean 'digits'?"),
    ("sweep", ["--config=default"], "'default' is not one of: celeba, .* mnists.$"),
    ("reproduce", ["--config=smoke"], "'smoke' is not one of: reproduce"),
    ("train", ["--config=digits:fast"], r"TypeError.*get_config was passed 'fast'"),
    ("sweep", ["--config=digits", "--steps=5"], "--steps, .* --config.base.steps?"),
    ("train", [TRAIN, "--steps=5"], "unknown flag --steps, .* mean --config.steps?"),
    ("sweep", [SWEEP, "--steps=5"], "--steps, .* mean --config.base.steps?"),
    ("train", [TRAIN, "--batch-size=5"], "did you mean --config.batch_size?"),
    ("train", [TRAIN, "--repotr"], "unknown flag --repotr, .* did you mean --report?"),
    ("train", [TRAIN, "--config.widths=5"], "field: widths, .*model.deeplab.widths or"),
    ("train", [TRAIN, "--config.model.mlp.width=5"], "mean --config.model.mlp.widths?"),
    ("train", [TRAIN, "--config.seeds[0]=5"], r"field: seeds\[0\], .*config.seeds?"),
    ("train", [TRAIN, "--config.=5"], "no such field: , see --help"),
    ("train", [TRAIN, "--config.steps=1e3"], "--config.steps=1e3 must be a whole num"),
    ("train", [TRAIN, "--config.seeds=0 1"], "--config.seeds=0 1 must be a list: a,b"),
    ("train", [TRAIN, "--config.model.resnet.remat=maybe"], "maybe must be True or Fa"),
    ("train", [TRAIN, "--report=maybe"], "--report=maybe must be True or False"),
    ("train", [TRAIN, "--config.model=cnn"], "--config.model is a group of fields; s"),
    ("train", [TRAIN, "--config.steps"], "Missing value for flag --config.steps; see"),
    ("train", ["--config.steps=5", TRAIN], "before a value for --config was specified"),
    ("train", [TRAIN, "--flagfile=/none"], "^error: Unable to open flagfile: .*/none"),
    ("sweep", [SWEEP, "--engine=rey"], "--engine=rey: value should be one of <local"),
    ("sweep", [SWEEP, "--address=x:1"], "--address=x:1 needs --engine=ray"),
    ("measure", ["--config.facotrs.names=x"], "did you mean --config.factors.names?"),
    ("report", ["--ot=x"], "unknown flag --ot, see --help; did you mean --out?"),
    ("vocabulary", ["--out=x", "--size=many"], "--size=many must be a whole number"),
    ("vocabulary", ["--out=x", f"--data={LONG}"], "data.dir .*x' cannot be looked"),
    ("train", [f"--config={LONG}.py"], "xx.py is not there; one is configs/digits.py"),
    ("train", [f"--config={LONG}"], "xx' is not one of: celeba, cifar100, "),
    ("train", [TRAIN, "--config.variants=single:a,multi:b/c"], "'a' has no task 'a'"),
    ("train", [TRAIN, "--config.variants=multi,multi-cagrad@c=x"], "c as 'x'; it must"),
    ("train", [TRAIN, "--config.variants=multi:digits_0/digits_7"], "no task .*_7'"),
    ("benchmark", ["--markdown=/none/x"], "--markdown=/none/x cannot be written: No s"),
    ("benchmark", ["--rounds=0"], "rounds is 0; run at least 1"),
    ("benchmark", ["--workloads=W9"], "--workloads 'W9' is not one of: W1, W2"),
    ("benchmark", ["--methods=mgad"], "--methods 'mgad' is not .*did you mean 'mgda'"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "pattern"),
    MISTAKES,
    ids=[f"{c}-{'-'.join(a).replace(str(CONFIGS), '')}" for c, a, _ in MISTAKES],
)
def test_mistake(tmp_path, command, arguments, pattern):
    if command not in ("benchmark", "vocabulary"):
        arguments = [f"--workdir={tmp_path / 'run'}", *arguments]
    message = only_message(*ended(tmp_path, command, arguments))
    assert re.search(pattern, message), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["", None])
@pytest.mark.parametrize(
    ("command", "arguments", "flag"),
    [
        ("train", [TRAIN], "workdir"),
        ("sweep", [SWEEP], "workdir"),
        ("reproduce", [REPRODUCE], "workdir"),
        ("measure", [], "workdir"),
        ("report", [], "workdir"),
        ("tensorboard", ["--workdir=x"], "logdir"),
        ("vocabulary", [], "out"),
        ("toy", [], "out"),
    ],
)
def test_what_is_needed(tmp_path, command, arguments, flag, value):
    given = [] if value is None else [f"--{flag}={value}"]
    message = only_message(*ended(tmp_path, command, [*arguments, *given]))
    assert message == f"error: --{flag} is needed, see --help."


@pytest.fixture
def folders(tmp_path):
    """Make folders of all commands, and a file."""
    study, run = tmp_path / "all" / "study", tmp_path / "train"
    for folder in (study / "selected", run):
        folder.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    (run / "config.json").write_text("{}")
    (tmp_path / "file").touch()
    return {
        "train": run,
        "sweep": study,
        "reproduce": study.parent,
        "file": tmp_path / "file",
        "long": tmp_path / LONG,
    }


WRONG_FOLDERS = [
    ("train", [TRAIN], "sweep", "is one of sweep, not of train; choose another"),
    ("train", [TRAIN], "reproduce", "is one of reproduce, not of train; choose"),
    ("sweep", [SWEEP], "train", "is one of train, not of sweep; choose another"),
    ("reproduce", [REPRODUCE], "sweep", "is one of sweep, not of reproduce; choose"),
    ("measure", [], "sweep", "is one of sweep, .*what it chose is in .*study/selected"),
    ("report", [], "sweep", "is one of sweep, .*what it chose is in .*study/selected"),
    ("report", [], "long", "holds no records, it is not there; name the --workdir"),
    ("measure", [], "long", "there is no workdir .*x; name that of a training run"),
    ("train", [TRAIN], "long", "workdir .*x cannot be written to: File name too long"),
    ("report", [], "reproduce", "one of reproduce, .*it chose is in .*study/selected"),
    ("tensorboard", ["--logdir=x"], "sweep", "is one of sweep, .*it chose is in"),
    ("train", [TRAIN], "file", "cannot be written to: it is a file; choose another"),
    ("sweep", [SWEEP], "file", "cannot be written to: it is a file; choose another"),
    ("reproduce", [REPRODUCE], "file", "cannot be written to: it is a file; choose"),
    ("measure", [], "file", "there is no workdir .*file; name that of a training run"),
    ("report", [], "file", "file holds no records, it is a file; name the --workdir"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "folder", "pattern"),
    WRONG_FOLDERS,
    ids=[f"{command} of {folder}" for command, _, folder, _ in WRONG_FOLDERS],
)
def test_folder_of_another_command(
    tmp_path, folders, command, arguments, folder, pattern
):
    before = sorted(tmp_path.rglob("*"))
    arguments = [*arguments, f"--workdir={folders[folder]}"]
    message = only_message(*ended(tmp_path, command, arguments))
    assert re.search(pattern, message), message
    assert str(folders[folder]) in message
    log = {tmp_path / "log", tmp_path / "log" / "out", tmp_path / "log" / "err"}
    assert sorted(set(tmp_path.rglob("*")) - log) == before


def test_names_of_files_are_said_as_they_are(tmp_path):
    (tmp_path / ":a:[bold]\x1b[31m\n").touch()
    name = f"{tmp_path}/:a:[bold]\x1b[31m\n"
    message = only_message(*ended(tmp_path, "train", [TRAIN, f"--workdir={name}"]))
    assert f"{tmp_path}/:a:[bold]\\x1b[31m\\n cannot be written to" in message


@pytest.mark.parametrize(
    ("command", "arguments", "lines"),
    [
        (
            "train",
            ["--help"],
            ["  smto.cagrad.c=0.4", "  steps=600  # the same for single and multi"],
        ),
        (
            "train",
            [f"--config={CONFIGS}/celeba.py", "--help", "--config.steps=7"],
            ["  steps=7  # the same for single and multi", "  data.size=64  # pixels "],
        ),
        ("sweep", ["-h"], ["  grid.seeds=(0,)", "  base.smto.cagrad.c=0.4"]),
        ("reproduce", ["--help"], ["  studies.digits.base.steps=200"]),
        ("measure", ["--help"], ["  factors.hessian.iterations=20"]),
        ("report", ["--help"], ["  --workdir: Folders of runs, separated by commas."]),
        (
            "tensorboard",
            ["--help"],
            ["  --logdir: Folder for the events; must be new."],
        ),
    ],
)
def test_help(tmp_path, command, arguments, lines):
    code, out, err = ended(tmp_path, command, arguments)
    assert (code, err) == (0, "")
    shown = out.splitlines()
    for line in lines:
        assert any(text.startswith(line) for text in shown), line


def test_help_of_a_mistake_is_the_mistake(tmp_path):
    arguments = ["--help", TRAIN, "--config.stepps=3"]
    message = only_message(*ended(tmp_path, "train", arguments))
    assert "no such field: stepps" in message


def test_help_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        small.command(["--help"]), cwd=small.ROOT, stdout=write, check=False,
        stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
