import json
import os
import re
import struct
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from configs import cityscapes as config
from mtl_jax.data import cityscapes, prepare
from mtl_jax.models.trunk import Trunk
from mtl_jax.objectives.losses import DEPTH, SEGMENTATION
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool, take
from mtl_jax.types import DataMissing, InputError

COUNTS = {"train": 10, "val": 3}
FULL, SIZE = (32, 64), (4, 8)
ROOTS = ("leftImg8bit", "gtFine", "disparity")


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cityscapes, "COUNTS", COUNTS)
    monkeypatch.setattr(cityscapes, "TRAIN", 8)
    monkeypatch.setattr(cityscapes, "FULL", FULL)


def name(split, i):
    """Return official names; cities and numbers are not in the order of the images."""
    city = ("ulm", "aachen")[i % 2]
    return f"{split}/{city}/{city}_{i:06d}_000019"


def pixels(split, i):
    """Draw image, ids and disparities of a scene; the first pixels spell its number."""
    rng = np.random.default_rng([len(split), i])
    image = rng.integers(256, size=(*FULL, 3), dtype=np.uint8)
    ids = rng.integers(34, size=FULL, dtype=np.uint8)
    disparity = rng.integers(32_258, size=FULL, dtype=np.uint16)
    image[:8, :8] = disparity[:8, :8] = number = 100 * (split == "val") + i
    ids[:8, :8] = 7 + number % 2
    return image, ids, disparity


def paths(root, split, i):
    endings = cityscapes.KINDS.values()
    return [root / k / f"{name(split, i)}{e}" for k, e in zip(ROOTS, endings)]  # noqa: B905


def write(files, arrays):
    for path, array in zip(files, arrays, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "cityscapes"
    for split, n in COUNTS.items():
        for i in range(n):
            write(paths(root, split, i), pixels(split, i))
    return root


def load(tree, **options):
    return cityscapes.load(str(tree.parent), **{"size": SIZE, **options})


def number(x):
    """Read the numbers of scenes, 100 and more in val."""
    return x[:, 0, 0, 0].tolist()


def test_official_numbers(monkeypatch):
    monkeypatch.undo()
    assert cityscapes.COUNTS == {"train": 2_975, "val": 500}
    assert (cityscapes.TRAIN, 2_975 - cityscapes.TRAIN) == (2_380, 595)
    assert cityscapes.FULL == (1024, 2048)
    assert len(cityscapes.LABELS) == 34


def test_classes_are_the_official_ones():
    classes = cityscapes.CLASSES
    # Of 19 classes, ids in order of the classes (labels.py of cityscapesScripts).
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [classes[19].index(c) for c in range(19)] == ids
    assert sum(c == -1 for c in classes[19]) == 34 - 19
    # Of 7 categories, the first id.
    assert [classes[7].index(c) for c in range(7)] == [7, 11, 17, 21, 23, 24, 26]
    assert classes[7] == sorted(classes[7]) and classes[7].count(-1) == 7
    names = [label for label, *_ in cityscapes.LABELS]
    assert (names[7], names[11], names[33]) == ("road", "building", "bicycle")


def test_dataset_is_sound(tree):
    dataset = load(tree)
    assert dataset.one_input and dataset.tasks == ("segmentation", "depth")
    assert dataset.objectives == ("segmentation", "depth") and dataset.widths == (7, 1)
    assert (dataset.x.shape, dataset.x.dtype) == ((13, *SIZE, 3), np.uint8)
    assert (dataset.y.shape, dataset.y.dtype) == ((13, 2, *SIZE), np.float32)
    assert list(dataset.rows) == ["train", "validation", "test"]
    sizes = {"train": 8, "validation": 2, "test": 3}
    for split, (rows, others) in dataset.rows.items():
        np.testing.assert_array_equal(rows, others)
        assert rows.dtype == np.int32 and len(rows) == sizes[split]
        is_val = [n >= 100 for n in number(dataset.x[rows])]
        assert all(is_val) if split == "test" else not any(is_val)
    rows = np.concatenate([rows for rows, _ in dataset.rows.values()])
    assert sorted(rows) == list(range(13))
    assert sorted(number(dataset.x)) == [*range(10), 100, 101, 102]
    assert json.loads(json.dumps(dataset.provenance)) == dataset.provenance
    assert {"sources", "seed", "remarks"} == set(dataset.provenance)


def test_parts_of_a_scene_belong_together(tree):
    dataset = load(tree)
    for n, (labels, depths) in zip(number(dataset.x), dataset.y, strict=True):
        assert depths[0, 0] == np.float32(n) / np.float32(65_535)
        assert labels[0, 0] == 0  # road and sidewalk are flat
    of_19 = load(tree, classes=19)
    for n, (labels, _) in zip(number(of_19.x), of_19.y, strict=True):
        assert labels[0, 0] == n % 2  # road is 0, sidewalk 1


def test_seed_picks_the_validation_images(tree):
    first, again, other = (load(tree, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, other.x)
    for split in first.rows:
        np.testing.assert_array_equal(first.rows[split][0], again.rows[split][0])
    assert set(first.rows["validation"][0]) != set(other.rows["validation"][0])
    np.testing.assert_array_equal(first.rows["test"][0], other.rows["test"][0])


def test_arrays_are_mapped_and_decoded_once(tree, monkeypatch):
    before = load(tree)
    monkeypatch.setattr(cityscapes, "_decode", None)
    dataset = load(tree, seed=1)
    for array, old in zip(dataset[1:3], before[1:3], strict=True):
        assert isinstance(array, np.memmap) and not array.flags.writeable
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("option", [{"classes": 19}, {"size": (8, 8)}])
def test_other_options_are_other_arrays(tree, option):
    load(tree)
    dataset = load(tree, **option)
    assert dataset.x.shape[1:3] == option.get("size", SIZE)
    assert dataset.widths == (option.get("classes", 7), 1)


def test_standardised_depths(tree, monkeypatch):
    monkeypatch.setattr(cityscapes, "DEVIATION", np.float32(0.5))
    for split, n in COUNTS.items():  # a pixel nobody measured, and one of train only
        for i in range(n):
            image, ids, disparity = pixels(split, i)
            disparity[-16:, -16:] = 0
            disparity[:8, -8:] = 0 if split == "val" or i % 2 else 1 + i
            write(paths(tree, split, i), (image, ids, disparity))
    inverse, dataset = load(tree), load(tree, depth="standardised")
    for a, b in ((inverse.x, dataset.x), (inverse.y[:, 0], dataset.y[:, 0])):
        np.testing.assert_array_equal(a, b)
    is_train = np.array(number(inverse.x)) < 100
    depths = np.where(inverse.y[:, 1] == 0, np.nan, inverse.y[:, 1]).astype(float)
    measured = np.isfinite(depths[is_train]).sum(axis=0)
    assert {0, 5, 10} <= set(measured.ravel())
    mean = np.nansum(depths[is_train], axis=0) / np.maximum(measured, 1)
    expected = np.nan_to_num((depths - mean[None]) / 0.5)
    np.testing.assert_allclose(dataset.y[:, 1], expected, atol=1e-6)
    assert (expected[:, 0, 0] != 0).any() and (expected[:, -1, -1] == 0).all()
    assert "mean" in dataset.provenance["remarks"][0]

    monkeypatch.setattr(cityscapes, "DEVIATION", None)  # it is mapped, not made again
    again = load(tree, depth="standardised", seed=1)
    assert isinstance(again.y, np.memmap) and again.y.dtype == np.float32
    np.testing.assert_array_equal(again.y, dataset.y)


def test_another_file_is_decoded_again(tree):
    load(tree)
    write(paths(tree, "val", 1), pixels("val", 2))
    assert sorted(number(load(tree).x)) == [*range(10), 100, 102, 102]


def test_a_scene_by_hand(tree):
    """Average areas of the image; take the others nearest to their middles."""
    image, ids, disparity = np.zeros((*FULL, 3), np.uint8), *np.zeros((2, *FULL), int)
    image[:8, :8] = (10, 20, 30)
    image[:8, 8:12] = (200, 100, 50)  # one half of the second area
    image[4:8, 16:20, 0] = 80  # a quarter of the third
    # The middle of an area of 8x8 pixels is pixel 4, 4.
    middles = [7, 8, 9, 11, 17, 18, 23, 25]
    ids[4, 4::8], ids[12, 4::8] = middles, [26, 29, 33, 0, 6, 21, 24, 13]
    disparity[4, 4::8] = [0, 1, 2, 257, 32_257, 65_535, 256, 0]
    disparity[0], ids[0] = 9_999, 5  # nowhere near a middle
    arrays = image, ids.astype(np.uint8), disparity.astype(np.uint16)
    write(paths(tree, "val", 0), arrays)
    for classes, first, second in (
        (7, [0, 0, 0, 1, 2, 2, 4, 5], [6, 6, 6, -1, -1, 3, 5, 1]),
        (19, [0, 1, -1, 2, 5, -1, 10, 12], [13, -1, 18, -1, -1, 8, 11, 4]),
    ):
        dataset = load(tree, classes=classes)
        (row,) = (r for r, x in enumerate(dataset.x) if tuple(x[0, 0]) == (10, 20, 30))
        assert row >= 10
        x, (labels, depths) = dataset.x[row], dataset.y[row]
        assert x[0, 1].tolist() == [100, 50, 25] and x[0, 2].tolist() == [20, 0, 0]
        assert not x[0, 3:].any() and not x[1:].any()
        assert labels[0].tolist() == first and labels[1].tolist() == second
        assert (labels[2:] == -1).all()
        expected = [0, 1, 2, 257, 32_257, 65_535, 256, 0]
        np.testing.assert_allclose(depths[0], np.divide(expected, 65_535), rtol=1e-6)
        assert (depths[1:] == 0).all()
        assert (depths[0] == 0).tolist() == [True, *[False] * 6, True]


def test_sizes_that_do_not_divide(tree):
    dataset = load(tree, size=(5, 7))
    image, ids, disparity = pixels("val", 0)
    row = 11  # aachen comes first
    small = Image.fromarray(image).resize((7, 5), Image.Resampling.BOX)
    np.testing.assert_array_equal(dataset.x[row], np.asarray(small))
    # Middles at multiples of 3.2 and 32 / 7, such as 4.57, 13.7, 22.9, 32, 41.1.
    at = np.ix_([3, 9, 16, 22, 28], [4, 13, 22, 32, 41, 50, 59])
    of_class = np.array(cityscapes.CLASSES[7])
    np.testing.assert_array_equal(dataset.y[row, 0], of_class[ids[at]])
    np.testing.assert_allclose(dataset.y[row, 1], disparity[at] / 65_535, rtol=1e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_directory_is_the_tree_or_the_folder_it_is_in(tree, inside):
    directory = str(tree if inside else tree.parent)
    assert len(cityscapes.load(directory, "files", size=SIZE).x) == 13


def test_archives_may_have_folders_of_their_own(tree):
    for kind in ROOTS:
        (tree / f"{kind}_trainvaltest").mkdir()
        (tree / kind).rename(tree / f"{kind}_trainvaltest" / kind)
    image = paths(tree / "leftImg8bit_trainvaltest", "val", 0)[0]
    image.with_name(f"._{image.name}").touch()  # as a Mac leaves them
    assert len(load(tree).x) == 13


def test_missing_tree_says_how_to_get_it(tmp_path):
    with pytest.raises(DataMissing) as error:
        cityscapes.load(str(tmp_path), size=SIZE)
    words = ["https://www.cityscapes-dataset.com", "--config.data.dir"]
    for word in [*words, str(tmp_path / "cityscapes"), *ROOTS]:
        assert word in str(error.value)
    for kind in ROOTS:
        assert f"{kind}_trainvaltest.zip" in str(error.value)


def test_missing_part_of_the_tree_is_named(tree):
    (tree / "disparity" / "val").rename(tree / "val")
    with pytest.raises(DataMissing, match=r"has no disparity/val in .*cityscapes \("):
        load(tree)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "tfds"}, "TFDS has no Cityscapes with both.*source=files"),
        ({"source": "web"}, "'web' is not one of: auto, files"),
        ({"depth": "metres"}, "depth 'metres' is not one of: inverse, standardised"),
        ({"classes": 8}, "classes 8 is not one of: 7, 19"),
        ({"size": (128,)}, re.escape("(128,); choose (height, width) up to (32, 64)")),
        ({"size": (33, 64)}, re.escape("(33, 64)")),
        ({"size": (0, 64)}, re.escape("(0, 64)")),
        ({"size": (4.5, 8)}, re.escape("(4.5, 8)")),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        cityscapes.load(str(tmp_path), **options)


def resave(change, mode=None):
    def damaged(path):
        array = change(np.asarray(Image.open(path)))
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path)

    return damaged


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 255
    path.write_bytes(content)


def same(array):
    return array


def promise(path):
    """Make a PNG of a header alone, of many pixels."""
    header = b"IHDR" + struct.pack(">2I5B", 9_000, 9_000, 8, 2, 0, 0, 0)
    chunks = (header, b"IEND")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(part) - 4)
            + part
            + struct.pack(">I", zlib.crc32(part))
            for part in chunks
        )
    )


DAMAGE = {
    "empty": (0, lambda path: path.write_bytes(b""), ["cannot be decoded", "unpack"]),
    "no image": (
        1,
        lambda path: path.write_text("<html>"),
        ["(Unidentified", "Error: cannot identify image file);"],
    ),
    "cut": (0, cut, ["cannot be decoded", "runcated"]),
    "cut labels": (1, cut, ["cannot be decoded"]),
    "cut disparity": (2, cut, ["cannot be decoded"]),
    "flipped": (0, flip, ["cannot be decoded"]),
    "flipped disparity": (2, flip, ["cannot be decoded"]),
    "photograph": (
        0,
        lambda path: Image.open(path).save(path, "JPEG"),
        ["cannot identify"],
    ),
    "many pixels": (0, promise, ["9000x9000", "expected 32x64"]),
    "large file": (1, lambda path: os.truncate(path, 2**40), ["more than 33554432 by"]),
    "smaller": (0, resave(lambda a: a[::2, ::2]), ["16x32", "expected 32x64"]),
    "smaller labels": (1, resave(lambda a: a[:, ::2]), ["32x32", "expected 32x64"]),
    "grey image": (0, resave(same, "L"), ["type L", "RGB"]),
    "colours for labels": (1, resave(same, "RGB"), ["type RGB", "expected", "of L"]),
    "8-bit disparity": (2, resave(lambda a: a.astype(np.uint8)), ["type L", "I;16"]),
    "RGB disparity": (
        2,
        resave(lambda a: np.stack([a.astype(np.uint8)] * 3, -1)),
        ["type RGB", "I;16"],
    ),
    "trainIds": (
        1,
        resave(lambda a: np.where(a < 7, 255, a % 19).astype(np.uint8)),
        ["label 255", "0..33", "labelIds"],
    ),
    "missing labels": (1, lambda path: path.unlink(), ["gtFine_trainvaltest.zip"]),
    "missing disparity": (2, lambda path: path.unlink(), ["disparity_trainvaltest"]),
    "folder": (2, lambda path: (path.unlink(), path.mkdir()), ["IsADirectory"]),
}


@pytest.mark.parametrize(("kind", "damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(tree, kind, damage, words):
    files = paths(tree, "train", 5)
    damage(files[kind])
    with pytest.raises(InputError) as error:
        load(tree)
    assert not isinstance(error.value, DataMissing)
    for word in [str(files[kind]), *words]:
        assert word in str(error.value)


def test_repaired_file_goes_on(tree, monkeypatch):
    monkeypatch.setattr(prepare, "BLOCK", 4)
    label = paths(tree, "val", 2)[1]
    whole = label.read_bytes()
    label.write_bytes(whole[:-30] + bytes(30))
    with pytest.raises(InputError, match="cannot be decoded"):
        load(tree)
    label.write_bytes(whole)
    seen = []
    decode = cityscapes._decode
    monkeypatch.setattr(
        cityscapes, "_decode", lambda *args: (seen.append(1), decode(*args))[1]
    )
    assert sorted(number(load(tree).x)) == [*range(10), 100, 101, 102]
    assert len(seen) == 1  # the last of blocks of 4


def test_too_few_or_many_images(tree):
    image = paths(tree, "train", 5)[0]
    os.rename(image, image.with_name("ulm_000099_000019_leftImg8bit.png.part"))
    with pytest.raises(InputError, match="leftImg8bit/train has 9 images, expected 10"):
        load(tree)
    for n in (98, 99):
        image.with_name(f"ulm_0000{n}_000019_leftImg8bit.png").touch()
    with pytest.raises(InputError, match="has 11 images, expected 10"):
        load(tree)


class Pixels(Trunk):
    """The least of dense predictors."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return nn.relu(nn.Conv(5, (3, 3))(x))


def test_setting_of_the_data(tree):
    dataset = load(tree)
    setting = from_dataset("cityscapes", dataset, Pixels())
    assert setting.scores == (
        ("mean_iou", "pixel_accuracy"),
        ("absolute_error", "relative_error"),
    )
    params, state = setting.init(jax.random.key(0), jnp.arange(2))
    rows: Any = dataset.rows["train"][0][:4]
    data = jax.tree.map(jnp.asarray, data_pool(setting))
    batch = take(setting, data, rows, jnp.arange(2))
    assert batch.x.shape == (4, *SIZE, 3)
    z, _ = setting.represent(params.shared, state.trunk, batch.x)
    for task, objective in enumerate((SEGMENTATION, DEPTH)):
        of_task = jax.tree.map(
            lambda leaf, task=task: leaf[task], (params.heads, batch.y)
        )
        loss, _ = setting.head_loss(of_task[0], state.heads, z, of_task[1])
        outputs = z @ of_task[0]["kernel"]  # the bias is 0 yet
        outputs = outputs[..., 0] if task else outputs
        expected = objective.example_loss(outputs, dataset.y[rows, task]).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_config():
    made: Any = config.get_config()
    dataset_options = dict(made.data)
    assert (dataset_options["classes"], dataset_options["size"]) == (7, (128, 256))
    epoch = -(-2_380 // made.batch_size)
    assert (made.steps, made.model.name) == (100 * epoch, "deeplab")
    assert made.data.depth == "inverse" and made.model.deeplab.blocks == (3, 4, 6, 3)


def test_config_of_the_paper():
    made: Any = config.get_config("paper")
    assert made.data.to_dict() | {"size": (256, 512), "depth": "standardised"} == (
        made.data.to_dict()
    )
    assert made.model.deeplab.blocks == (3, 4, 23, 3)  # ResNet-101
    with pytest.raises(InputError, match="'other' is not one of: kurin, paper"):
        config.get_config("other")
