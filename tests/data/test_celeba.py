import io
import os
import shutil
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs import celeba as config
from mtl_jax.data import celeba, celeba_files, prepare
from mtl_jax.data.celeba_files import ATTRIBUTES
from mtl_jax.training.setting import make_setting
from mtl_jax.types import DataMissing, InputError
from tests.data.builder import build, encoded
from tests.data.soundness import assert_sound, everything, sizes

COUNTS = {"train": 17, "validation": 6, "test": 7}
COUNT = 30
ATTRS, EVAL = "list_attr_celeba.txt", "list_eval_partition.txt"
RNG = np.random.default_rng(3)
NAMES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
VALUES = RNG.choice([1, -1], size=(COUNT, 40))
PARTITION = np.repeat([0, 1, 2], list(COUNTS.values()))
COLOURS = RNG.integers(256, size=(COUNT, 2, 2, 3), dtype=np.uint8)
IMAGES = [
    encoded(np.kron(coarse, np.ones((109, 89, 1), np.uint8)), "jpeg").getvalue()
    for coarse in COLOURS
]
"""Four rectangles of one colour each."""
FILES = {
    ATTRS: f"{COUNT}\n{' '.join(ATTRIBUTES)} \n"
    + "".join(
        f"{name} {' '.join(f'{value:2d}' for value in row)}\n"
        for name, row in zip(NAMES, VALUES, strict=True)
    ),
    EVAL: "".join(
        f"{name} {split}\n" for name, split in zip(NAMES, PARTITION, strict=True)
    ),
}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(celeba, "COUNTS", COUNTS)
    monkeypatch.setattr(prepare, "BLOCK", 8)


def write(root, places=("", "", "")):
    for place, name in zip(places, celeba_files.PLACES, strict=True):
        (root / "celeba" / place).mkdir(parents=True, exist_ok=True)
        if name in FILES:
            (root / "celeba" / place / name).write_text(FILES[name])
        else:
            (root / "celeba" / place / name).mkdir()
            for image, content in zip(NAMES, IMAGES, strict=True):
                (root / "celeba" / place / name / image).write_bytes(content)


@pytest.fixture
def directory(tmp_path):
    write(tmp_path / "official")
    return tmp_path / "official"


def prepare_tfds(directory, splits=tuple(COUNTS)):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="jpeg"),
        "landmarks": {"nose_x": np.int64},
        "attributes": dict.fromkeys(ATTRIBUTES, np.bool_),
    }
    examples = {split: [] for split in splits}
    for i in np.random.default_rng().permutation(COUNT):
        split = list(COUNTS)[PARTITION[i]]
        attributes = dict(zip(ATTRIBUTES, VALUES[i] > 0, strict=True))
        example = {"image": io.BytesIO(IMAGES[i]), "landmarks": {"nose_x": 1}}
        if split in splits:
            examples[split].append({**example, "attributes": attributes})
    build(directory, "celeb_a", features, examples)


def in_order(dataset):
    """Return images and targets of every split, in the order of the rows."""
    return {
        split: (dataset.x[rows[0]], dataset.y[rows[0]])
        for split, rows in dataset.rows.items()
    }


def assert_same(dataset, other):
    for split, arrays in in_order(dataset).items():
        for ours, theirs in zip(arrays, in_order(other)[split], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_official_files(directory):
    dataset = celeba.load(str(directory))
    assert_sound(dataset)
    assert dataset.one_input
    assert dataset.tasks == ATTRIBUTES and len(ATTRIBUTES) == 40
    assert set(dataset.objectives) == {"bernoulli_f1"} and set(dataset.widths) == {1}
    assert (dataset.x.shape, dataset.y.shape) == ((COUNT, 64, 64, 3), (COUNT, 40))
    assert isinstance(dataset.x, np.memmap)
    assert {s: set(n) for s, n in sizes(dataset).items()} == {
        split: {count} for split, count in COUNTS.items()
    }
    assert sorted(everything(dataset)) == list(range(COUNT))
    # Every image has its own attributes and split, whatever the order.
    expected = {}
    for split, content, values in zip(PARTITION, IMAGES, VALUES, strict=True):
        with Image.open(io.BytesIO(content)) as image:
            small = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
        expected[small.tobytes()] = (split, (values > 0).tolist())
    assert len(expected) == COUNT
    for number, (x, y) in enumerate(in_order(dataset).values()):
        for image, labels in zip(x, y, strict=True):
            assert expected.pop(image.tobytes()) == (number, labels.tolist())
    assert expected == {}


@pytest.mark.parametrize("size", [32, 64, 178])
def test_the_whole_image_is_resized(directory, size):
    x = celeba.load(str(directory), size=size).x.astype(int)
    assert x.shape == (COUNT, size, size, 3)
    half = size // 2
    for row, column in np.ndindex(2, 2):
        quarter = x[:, half * row :, half * column :][:, 2 : half - 2, 2 : half - 2]
        colours = COLOURS[:, row, column, None, None].astype(int)
        assert np.abs(quarter - colours).mean() < 3  # JPEG blurs colours at the edges


def test_official_folders_of_the_distribution(directory, tmp_path):
    write(tmp_path / "other", celeba_files.PLACES.values())
    for root in (tmp_path / "other", tmp_path / "other" / "celeba"):
        assert_same(celeba.load(str(root)), celeba.load(str(directory)))


def test_tfds_gives_the_same(directory, tmp_path):
    prepare_tfds(tmp_path / "tfds")
    expected = celeba.load(str(directory))
    dataset = celeba.load(str(tmp_path / "tfds"))
    assert_sound(dataset)
    assert_same(dataset, expected)
    kinds = [d.provenance["sources"]["celeba"]["kind"] for d in (expected, dataset)]
    assert kinds == ["files", "tfds"]
    inside = celeba.load(str(tmp_path / "tfds" / "celeb_a"))
    assert_same(inside, expected)
    (tmp_path / "tfds" / "celeba").symlink_to(directory / "celeba")
    for source, kind in (("auto", "tfds"), ("files", "files")):
        both = celeba.load(str(tmp_path / "tfds"), source)
        assert both.provenance["sources"]["celeba"]["kind"] == kind


def test_decoded_once_and_again_if_an_image_changes(directory, monkeypatch):
    expected = celeba.load(str(directory))
    decode = celeba._decode
    monkeypatch.setattr(celeba, "_decode", None)
    assert_same(celeba.load(str(directory), attributes=ATTRIBUTES), expected)
    monkeypatch.setattr(celeba, "_decode", decode)
    image = directory / "celeba" / "img_align_celeba" / NAMES[4]
    image.write_bytes(encoded(np.zeros((218, 178, 3), np.uint8), "jpeg").getvalue())
    assert (celeba.load(str(directory)).x[4] == 0).all()
    assert (celeba.load(str(directory), size=8).x[4] == 0).all()


def test_attributes_by_name(directory):
    complete = celeba.load(str(directory))
    some = celeba.load(str(directory), attributes=("Smiling", "Male"))
    assert_sound(some)
    assert some.tasks == ("Smiling", "Male") and some.widths == (1, 1)
    np.testing.assert_array_equal(some.y, complete.y[:, [31, 20]])
    np.testing.assert_array_equal(everything(some), everything(complete))
    assert celeba.load(str(directory), attributes=("Smiling,Male",)).tasks == some.tasks


def test_columns_in_another_order(directory):
    expected = celeba.load(str(directory))
    lines = [line.split() for line in FILES[ATTRS].splitlines()]
    turned = [lines[0], lines[1][::-1], *([n, *v[::-1]] for n, *v in lines[2:])]
    text = "".join(" ".join(words) + "\n" for words in turned)
    (directory / "celeba" / ATTRS).write_text(text)
    assert_same(celeba.load(str(directory)), expected)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attributes": ("Male", "smiling")}, ["'smiling'", "did you mean 'Smiling'?"]),
        ({"attributes": ("Bear",)}, ["'Bear'", "No_Beard"]),
        ({"attributes": ("?",)}, ["'?'", "5_o_Clock_Shadow", "Young"]),
        ({"attributes": ("Male", "Male")}, ["'Male'", "twice"]),
        ({"size": 0}, ["size is 0", "1 to 178"]),
        ({"size": 200}, ["size is 200", "1 to 178"]),
        ({"source": "web"}, ["source 'web' is not one of"]),
    ],
)
def test_options_out_of_range(directory, options, words):
    with pytest.raises(InputError) as error:
        celeba.load(str(directory), **options)
    for word in words:
        assert word in str(error.value)


def replace(name, old, new, count=1):
    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, count))

    return damage


def image(number, content):
    def damage(folder):
        (folder / "img_align_celeba" / NAMES[number]).write_bytes(content)

    return damage


def grey(height, width):
    return encoded(np.zeros((height, width, 3), np.uint8), "jpeg").getvalue()


ROW = FILES[ATTRS].splitlines(keepends=True)[4]
DAMAGE = {
    "a row too few": (replace(ATTRS, ROW, ""), [ATTRS, "29 rows", "promises '30'"]),
    "empty": (replace(ATTRS, FILES[ATTRS], ""), [ATTRS, "0 rows", "promises ''"]),
    "no number": (replace(ATTRS, "30\n", ""), [ATTRS, "29 rows", "5_o_Clock_Shadow"]),
    "web page": (replace(ATTRS, FILES[ATTRS], "<html>"), [ATTRS, "<html>"]),
    "no such column": (
        replace(ATTRS, "Smiling", "Laughing"),
        [ATTRS, "no column Smiling among its 40"],
    ),
    "a column too few": (
        replace(ATTRS, " Young", ""),
        [ATTRS, "no column Young among its 39"],
    ),
    "a value too few": (
        replace(ATTRS, ROW, ROW.rsplit(" ", 1)[0].rstrip() + "\n"),
        [ATTRS, "39 values for 000003.jpg", "expected 40"],
    ),
    "0 for no": (
        replace(ATTRS, ROW, ROW.replace("-1", " 0", 1)),
        [ATTRS, "value 0 of", "for 000003.jpg", "1 or -1"],
    ),
    "partition too short": (
        replace(EVAL, "000030.jpg 2\n", ""),
        [EVAL, "29 rows", ATTRS, "30"],
    ),
    "other partition": (
        replace(EVAL, "000018.jpg 1", "000018.jpg 0"),
        [EVAL, "18 train images, expected 17"],
    ),
    "unknown split": (
        replace(EVAL, "000018.jpg 1", "000018.jpg 3"),
        [EVAL, "'000018.jpg 3' in row 18", "0..2"],
    ),
    "no split": (replace(EVAL, "000018.jpg 1", "000018.jpg"), [EVAL, "in row 18"]),
    "other names": (
        replace(EVAL, "000018.jpg", "000018.png"),
        [EVAL, "000018.png in row 18", ATTRS, "000018.jpg"],
    ),
    "no image": (
        lambda folder: (folder / "img_align_celeba" / NAMES[3]).unlink(),
        ["img_align_celeba lacks 1 of the 30", "000004.jpg", "img_align_celeba.zip"],
    ),
    "truncated image": (
        image(20, IMAGES[20][:-200]),
        ["img_align_celeba/000021.jpg cannot be decoded", "again"],
    ),
    "empty image": (image(20, b""), ["img_align_celeba/000021.jpg cannot be decoded"]),
    "no jpeg": (
        image(20, b"<html>"),
        [
            "000021.jpg cannot be decoded (UnidentifiedImageError: cannot identify",
            "e);",
        ],
    ),
    "another form": (
        image(20, encoded(np.zeros((218, 178, 3), np.uint8), "png").getvalue()),
        ["000021.jpg cannot be decoded"],
    ),
    "large file": (image(20, bytes(2**25 + 1)), ["it has more than 33554432 bytes"]),
    "image in the wild": (
        image(20, grey(400, 300)),
        ["000021.jpg is an image of 300x400", "178x218", "aligned"],
    ),
    "turned image": (image(20, grey(178, 218)), ["218x178 pixels, expected 178x218"]),
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", [ATTRS, EVAL])
def test_list_saved_by_another_editor(directory, name, encoding):
    expected = celeba.load(str(directory))
    path = directory / "celeba" / name
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    assert_same(celeba.load(str(directory)), expected)


def test_list_that_is_none(directory):
    path = directory / "celeba" / ATTRS
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=f"{ATTRS} is no list .*put the official file"):
        celeba.load(str(directory))
    os.truncate(path, 2**40)
    with pytest.raises(InputError, match="is no list .it has more than 67108864 bytes"):
        celeba.load(str(directory))


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(directory, damage, words):
    damage(directory / "celeba")
    with pytest.raises(InputError) as error:
        celeba.load(str(directory))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", celeba_files.PLACES)
def test_missing_part_is_named_within_a_second(directory, name):
    part = directory / "celeba" / name
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    start = time.monotonic()
    with pytest.raises(DataMissing) as error:
        celeba.load(str(directory))
    assert time.monotonic() - start < 1
    assert f"in {directory / 'celeba'} " in str(error.value)
    assert f"Put the official files there: {name};" in str(error.value)
    assert f"tfds build celeb_a --file_format=array_record --data_dir={directory}" in (
        str(error.value)
    )


def test_missing_tree_names_all_parts(tmp_path):
    with pytest.raises(DataMissing) as error:
        celeba.load(str(tmp_path / "nowhere"))
    for name in celeba_files.PLACES:
        assert name in str(error.value)


def test_prepared_data_that_are_incomplete_or_damaged(tmp_path, monkeypatch):
    prepare_tfds(tmp_path)
    version = tmp_path / "celeb_a" / "3.0.1"
    with monkeypatch.context() as patch:
        patch.setattr(celeba, "COUNTS", {**COUNTS, "test": 8})
        with pytest.raises(InputError, match="has 7 test images, expected 8"):
            celeba.load(str(tmp_path))
    shard = next(version.glob("*validation*"))
    content = shard.read_bytes()
    shard.write_bytes(b"")
    with pytest.raises(InputError, match="3.0.1 cannot be read by TFDS.*source=files"):
        celeba.load(str(tmp_path))
    shard.unlink()
    with pytest.raises(DataMissing, match="no validation split.*--overwrite"):
        celeba.load(str(tmp_path))
    shard.write_bytes(content)
    assert_sound(celeba.load(str(tmp_path)))


def test_official_counts(monkeypatch):
    monkeypatch.undo()
    assert celeba.COUNTS == {"train": 162_770, "validation": 19_867, "test": 19_962}
    assert sum(celeba.COUNTS.values()) == 202_599


def test_config(directory):
    c: Any = config.get_config()
    c.data.dir = str(directory)
    c.data.attributes = ("Male", "Young")
    c.data.size = 16
    c.model.resnet.widths = (4, 8)  # maps of 8x8, as of the full size and stages
    c.model.resnet.blocks = (1, 1)
    made = make_setting(c)
    assert made.data.tasks == ("Male", "Young")
    assert made.data.x.shape == (COUNT, 16, 16, 3)
