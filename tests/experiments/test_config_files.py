"""Config files are found by name or by path, and start from the shipped ones."""

import pytest

from configs import default, digits, reproduce
from configs.paper import protocol
from configs.sweeps import digits as sweep_of_digits
from experiments import config_files
from tests import small

CONFIGS = small.ROOT / "configs"
PAPER = ("auxiliary", "celeba", "cifar100", "cityscapes", "fashion", "glue", "mnists")
NAMES = [(c, n) for c in config_files.SHIPPED for n in config_files.shipped(c)]


def test_every_setting_has_a_name_for_training_and_for_sweeps():
    settings = {path.stem for path in CONFIGS.glob("sweeps/[!_]*.py")} - {"default"}
    assert set(config_files.shipped("train")) == settings
    assert set(config_files.shipped("sweep")) == settings


@pytest.mark.parametrize(("command", "name"), NAMES)
def test_shipped_by_name(command, name):
    path = str(config_files.shipped(command)[name].relative_to(small.ROOT))
    config = config_files.load(name, command)
    assert config == config_files.load(path, command)
    assert config.to_dict()


def test_name_says_which_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # a workdir of that name hides nothing
    assert config_files.load("digits", "train") == digits.get_config()
    assert config_files.load("digits", "sweep") == sweep_of_digits.get_config()
    smoke = config_files.load("reproduce:smoke", "reproduce")
    assert smoke == reproduce.get_config("smoke")


OWN = """from mtl_jax.configs import default
from mtl_jax.configs.sweeps import default as study

def get_config(word="7"):
    config = default.get_config()
    config.steps = int(word)
    return study.get_config(config)
"""


@pytest.mark.parametrize(("word", "steps"), [("", 7), (":9", 9)])
def test_file_of_ones_own_starts_from_the_defaults(tmp_path, word, steps):
    path = tmp_path / "my_config.py"
    path.write_text(OWN)
    expected = default.get_config()
    expected.steps = steps
    assert config_files.load(f"{path}{word}", "sweep").base == expected


@pytest.mark.parametrize("budget", protocol.BUDGETS)
@pytest.mark.parametrize("name", PAPER)
def test_budgets_of_the_paper(name, budget):
    config = config_files.load(f"paper/{name}:{budget}", "reproduce")
    for study in config.studies.values():
        grid = study.grid
        candidates = len(grid.learning_rates) * len(grid.batch_sizes)
        assert candidates == (54 if budget == "paper" else 1)
        assert study.base.trajectory.epochs and "train" in study.base.evaluate
        similarity = study.base.factors.gradient_similarity
        assert budget != "paper" or similarity.batches == 200


@pytest.mark.parametrize(
    ("command", "file", "config"),
    [
        ("train", "digits.py", digits),
        ("sweep", "sweeps/digits.py", sweep_of_digits),
        ("reproduce", "reproduce.py", reproduce),
    ],
)
def test_copy_of_a_shipped_file(tmp_path, command, file, config):
    path = tmp_path / "copy.of.mine.py"
    path.write_text((CONFIGS / file).read_text())
    assert config_files.load(str(path), command) == config.get_config()
