"""A workdir of which any one file is damaged: it is said which, or it does no harm.

A tiny run is trained once, and every case damages a copy of its folder. Never may
other numbers be read, an error come that is not ours, or anything be lost.
"""

import json
import random
import shutil

import pytest
from pandas.testing import assert_frame_equal

from mtl_jax.report import findings
from mtl_jax.storage import candidates, checkpoint, manifest, records
from mtl_jax.storage.records import Row
from mtl_jax.studies import grid, study, trial
from mtl_jax.training.remeasure import remeasure
from mtl_jax.types import InputError
from tests import small, tiny_study
from tests.tiny_study import Pretender

CHANGES = {"variants": ("multi",), "seeds": (0,), "checkpoint__every": 5}
STEPS = (0, 1, 2, 5, 12)
PARTS = [f"records/{step:010d}.parquet" for step in STEPS]
FLIPS = 40
SEED = 0
"""Seed of the damage: another finds other bits, at a cost of a minute."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with small.compiled_once(folder / "cache"):
        yield folder


@pytest.fixture(scope="module")
def sound(folder):
    """Make a finished run, of which nothing is damaged."""
    return small.run(folder / "sound", **CHANGES)


@pytest.fixture(scope="module")
def other(folder):
    """Make a run like it from another seed."""
    return small.run(folder / "other", **{**CHANGES, "seeds": (1,)}).path


@pytest.fixture
def path(sound, tmp_path):
    """Make a copy to be damaged."""
    return shutil.copytree(sound.path, tmp_path / "run")


@pytest.fixture
def dice():
    return random.Random(SEED)


def flip(path, dice):
    content = bytearray(path.read_bytes())
    place = dice.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def halve(path, dice):
    del dice
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, dice):
    del dice
    path.write_bytes(b"")


def delete(path, dice):
    del dice
    path.unlink()


def replace(path, dice):
    del dice
    path.write_bytes(b"what somebody else put here\n")


DAMAGES = (flip, halve, empty, delete, replace)


def contents(path):
    """Read all files of a folder but those that every command writes."""
    return {
        file: file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in (".lock", "splits.npz", "run.json")
    }


def says(action, *words):
    """Return what an action does, or None where its one message has all these words."""
    try:
        return action()
    except InputError as error:
        message = str(error)
        assert all(word in message for word in words), message
        assert "\n" not in message
        return None


def resume(path):
    return small.run(path, **CHANGES)


def measure(path):
    remeasure(path, {"factors.names": ("conflict",)}, lambda _: None)


def assert_resumes(path, sound, *words):
    """Give the command again: it names the damage, loses nothing, or is as before."""
    before = contents(path)
    ended = says(lambda: resume(path), *words)
    if ended is None:
        assert contents(path) == before
    else:
        assert_frame_equal(ended.records, sound.records, check_exact=True)
        assert small.checkpoint_of(path)[1] == small.checkpoint_of(sound.path)[1]
    return ended


@pytest.mark.parametrize("name", PARTS[::2])
def test_any_bit_of_a_part(path, sound, dice, name):
    content = (path / name).read_bytes()
    for _ in range(FLIPS):
        flip(path / name, dice)
        with pytest.raises(InputError, match=f"{name} is damaged.*sound copy"):
            records.read(path)
        (path / name).write_bytes(content)
    assert_frame_equal(records.read(path), sound.records)


def test_any_bit_of_the_manifest(path, sound, dice):
    file = path / manifest.FILE
    content = file.read_bytes()
    for _ in range(FLIPS):
        flip(file, dice)
        df = says(lambda: records.read(path), manifest.FILE, "delete it")
        if df is not None:  # it was a space
            assert_frame_equal(df, sound.records)
        file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [PARTS[1], PARTS[-1], manifest.FILE])
def test_records(path, sound, dice, name, damage):
    damage(path / name, dice)
    before = contents(path)
    df = says(lambda: records.read(path), name, "copy")
    if df is not None:  # a manifest without a mistake, or none
        assert name == manifest.FILE
        assert_frame_equal(df, sound.records)
        return
    assert says(lambda: findings.find(path), name, "copy") is None
    assert says(lambda: measure(path), name, "copy") is None
    assert says(lambda: resume(path), name, "copy") is None
    assert contents(path) == before


def test_without_the_manifest(path, sound):
    (path / manifest.FILE).unlink()
    assert_frame_equal(records.read(path), sound.records)
    assert assert_resumes(path, sound)
    assert (path / manifest.FILE).exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "run.json", "splits.npz"])
def test_what_lies_beside_the_records(path, sound, dice, name, damage):
    damage(path / name, dice)
    assert_frame_equal(records.read(path), sound.records)
    assert len(findings.find(path).records) == len(sound.records)
    ended = assert_resumes(path, sound, "config", "hoose")
    assert ended or name == "config.json"


@pytest.mark.parametrize("name", [PARTS[1], "records/0000000007.parquet"])
def test_part_of_another_run(path, other, sound, name):
    shutil.copy(other / PARTS[1], path / name)
    for action in (lambda: records.read(path), lambda: resume(path)):
        assert says(action, name) is None
    shutil.copy(sound.path / PARTS[1], path / name)
    if name not in PARTS:
        (path / name).unlink()
    assert_frame_equal(resume(path).records, sound.records)


@pytest.mark.parametrize(
    "name", ["copy of 1.parquet", "1.parquet", "0000000099.parquet"]
)
def test_stray_file_among_the_records(path, sound, name):
    shutil.copy(path / PARTS[1], path / "records" / name)
    assert says(lambda: records.read(path), name, "not of this run", "Move") is None
    assert_resumes(path, sound, name, "not of this run")


@pytest.mark.parametrize("name", ["notes.txt", "notes.unfinished", ".DS_Store"])
def test_other_files_are_left_alone(path, sound, name):
    for folder in ("", "records", "checkpoints"):
        (path / folder / name).write_text("mine")
    assert assert_resumes(path, sound)
    for folder in ("", "records", "checkpoints"):
        assert (path / folder / name).read_text() == "mine"


def test_manifest_and_records_of_another_run(path, other, sound):
    shutil.rmtree(path / "records")
    shutil.copytree(other / "records", path / "records")
    shutil.copy(other / manifest.FILE, path / manifest.FILE)
    assert assert_resumes(path, sound, "of two runs", "checkpoint 12") is None


def test_checkpoint_of_another_run(path, other, sound):
    shutil.rmtree(path / "checkpoints" / "12")
    shutil.copytree(other / "checkpoints" / "12", path / "checkpoints" / "12")
    assert assert_resumes(path, sound, "of two runs", "checkpoint 12") is None


def test_all_checkpoints_gone(path, sound):
    shutil.rmtree(path / checkpoint.FOLDER)
    words = ("checkpoints", "gone", "Put them back", "choose another")
    assert assert_resumes(path, sound, *words) is None
    assert_frame_equal(records.read(path), sound.records)
    (path / manifest.FILE).unlink()
    assert assert_resumes(path, sound, *words) is None


def test_all_records_gone(path, sound):
    shutil.rmtree(path / records.FOLDER)
    assert says(lambda: records.read(path), PARTS[0], "is missing") is None
    assert_resumes(path, sound, PARTS[0], "is missing")
    (path / manifest.FILE).unlink()
    assert says(lambda: records.read(path), "holds no records") is None
    assert assert_resumes(path, sound, PARTS[0], "is missing") is None


def test_newest_checkpoint_gone(path, sound):
    shutil.rmtree(path / checkpoint.FOLDER / "12")
    ended = assert_resumes(path, sound)
    assert ended and ended.said == [
        "checkpoint 12 is missing; the one before it is taken",
        f"going on from step 10 of 12 in {path}",
    ]


@pytest.mark.parametrize("damage", [flip, delete])
def test_part_after_the_checkpoint_is_made_again(path, sound, dice, damage):
    """Cut it as a kill does, where nothing but a damage to the file is said."""
    shutil.rmtree(path / checkpoint.FOLDER / "12")
    known = manifest.read(path)
    assert known is not None
    manifest.write(path, known._replace(checkpoint=10))
    damage(path / PARTS[-1], dice)
    assert says(lambda: records.read(path), PARTS[-1], "makes the file again") is None
    ended = assert_resumes(path, sound)
    assert ended and ended.said == [f"going on from step 10 of 12 in {path}"]


def folder_instead(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [PARTS[1], manifest.FILE, "run.json", "config.json"])
def test_folder_in_the_place_of_a_file(path, sound, name):
    folder_instead(path / name)
    ended = says(lambda: resume(path), name)
    assert (ended is None) == (name != "run.json")
    assert (path / name).is_dir()
    df = says(lambda: records.read(path), name)
    assert df is None or df.equals(sound.records)


@pytest.mark.parametrize("damage", DAMAGES)
def test_newest_checkpoint_damaged(path, sound, dice, damage):
    files = [
        file for file in (path / "checkpoints" / "12").rglob("*") if file.is_file()
    ]
    damage(dice.choice(sorted(files)), dice)
    ended = assert_resumes(path, sound)
    assert ended
    if len(ended.said) > 1:
        assert ended.said[0].startswith("checkpoint 12 is damaged and passed over: ")
        assert (path / checkpoint.FOLDER / "12.damaged").is_dir()


def test_manifest_in_the_newest_checkpoint_damaged(path, sound):
    file = path / checkpoint.FOLDER / "12" / "checksum" / "metadata"
    about = json.loads(file.read_text())
    about["records"][0]["rows"] += 1
    file.write_text(json.dumps(about))
    ended = assert_resumes(path, sound)
    assert ended and ended.said[0].startswith("checkpoint 12 is damaged and passed")


def test_what_was_measured_is_not_dropped_in_silence(path):
    measure(path)
    shutil.rmtree(path / checkpoint.FOLDER / "12")
    assert any("measure them again" in text for text in resume(path).said)


def test_measured_records_go_with_the_checkpoint_before(path):
    measure(path)
    measured = records.read(path)
    assert_frame_equal(resume(path).records, measured)


def test_crash_between_manifest_and_part(path, monkeypatch, sound):
    """Read the new rows from the draft, which the next command finishes."""
    names = []
    publish = records.disk.publish

    def crash(file):
        names.append(file.name)
        if file.suffix == ".parquet":
            raise KeyboardInterrupt
        publish(file)

    monkeypatch.setattr(records.disk, "publish", crash)
    row = Row(**sound.records.iloc[0].to_dict())
    with pytest.raises(KeyboardInterrupt):
        records.merge(path, 5, [row._replace(name="new", step=5)])
    monkeypatch.undo()
    assert names == [manifest.FILE, "0000000005.parquet"]
    after = records.read(path)
    assert len(after) == len(sound.records) + 1
    assert_frame_equal(resume(path).records, after)
    assert not list((path / "records").glob("*.unfinished"))


class TestOfAVersionWithoutManifest:
    """Its records are taken as they are, and listed from then on."""

    @pytest.fixture
    def old(self, path):
        (path / manifest.FILE).unlink()
        for step in ("10", "12"):
            file = path / checkpoint.FOLDER / step / "checksum" / "metadata"
            crc = small.checkpoint_of(path, int(step))[1]
            file.write_text(json.dumps({"crc32": crc}))
        return path

    def test_goes_on(self, old, sound):
        assert_frame_equal(records.read(old), sound.records)
        assert assert_resumes(old, sound)
        (old / PARTS[0]).unlink()
        assert says(lambda: records.read(old), PARTS[0], "is missing") is None

    def test_is_measured(self, old, sound):
        measure(old)
        assert len(records.read(old)) > len(sound.records)
        assert len(resume(old).records) > len(sound.records)

    @pytest.mark.parametrize("damage", [lambda path: halve(path, None), folder_instead])
    def test_damaged(self, old, damage):
        damage(old / PARTS[2])
        for action in (lambda: records.read(old), lambda: resume(old)):
            assert says(action, PARTS[2]) is None

    def test_killed_before_its_first_checkpoint(self, old, sound):
        shutil.rmtree(old / checkpoint.FOLDER)
        assert assert_resumes(old, sound, "checkpoints", "gone") is None


def trained_again(*_):
    raise AssertionError("what is trained is trained again")


@pytest.fixture(scope="module")
def whole(folder):
    """Make a finished study."""
    study.run(tiny_study.config(), folder / "study", Pretender(), lambda _: None)
    return folder / "study"


class TestOfAStudy:
    """Its trials were not trained, but left what trained ones leave."""

    @pytest.fixture
    def path(self, whole, tmp_path):
        return shutil.copytree(whole, tmp_path / "study")

    def run(self, path):
        return study.run(tiny_study.config(), path, Pretender(), lambda _: None)

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("name", [candidates.TABLE, candidates.SELECTION])
    def test_choice(self, whole, path, dice, name, damage):
        """Say it on the page; the same command chooses again."""
        damage(path / name, dice)
        assert self.run(path) == 0
        assert contents(path).items() == relocated(contents(whole), whole, path)
        damage(path / study.SELECTED / name, dice)
        page = says(lambda: findings.find(path / study.SELECTED), name, "study again")
        if page is not None:
            expected = findings.find(whole / study.SELECTED)
            assert page.choice.rule == expected.choice.rule
            assert_frame_equal(page.choice.candidates, expected.choice.candidates)
        assert self.run(path) == 0
        assert contents(path).items() == relocated(contents(whole), whole, path)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_what_was_asked_for(self, path, dice, damage):
        damage(path / study.STUDY, dice)
        assert says(lambda: self.run(path), study.STUDY, "copy") in (0, None)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_records_of_a_trial(self, path, dice, damage):
        part = next((path / study.SWEEP).glob("*/records/*6.parquet"))
        damage(part, dice)
        assert says(lambda: self.run(path), str(part), "again") is None

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_records_of_the_choice(self, whole, path, dice, damage):
        part = path / study.SELECTED / "records" / "0000000006.parquet"
        damage(part, dice)
        assert says(lambda: records.read(path / study.SELECTED), part.name) is None
        assert self.run(path) == 0
        assert contents(path).items() == relocated(contents(whole), whole, path)

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("name", ["run.json", "config.json"])
    def test_provenance_of_a_trial(self, path, dice, name, damage):
        damage(next((path / study.FINAL).glob(f"*/{name}")), dice)
        assert self.run(path) == 0

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"seconds": "long"}'])
    def test_word_that_a_trial_is_finished(self, folder, monkeypatch, content):
        config = tiny_study.config()
        cell = grid.sweep(config, tiny_study.TASKS)[0]
        assert trial.finish(cell, folder, lambda _: None) is None
        assert not (folder / cell.name / checkpoint.FOLDER).exists()
        spent, file = trial.seconds(cell, folder), folder / cell.name / trial.FINISHED
        file.write_text(content)
        assert trial.seconds(cell, folder) is None
        monkeypatch.setattr(trial, "run", trained_again)
        assert trial.finish(cell, folder, lambda _: None) is None
        assert trial.seconds(cell, folder) == spent


def relocated(files, source, target):
    """Read the contents of a folder as if it lay elsewhere."""
    return {target / file.relative_to(source): c for file, c in files.items()}.items()
