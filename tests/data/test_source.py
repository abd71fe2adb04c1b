import gzip
import io
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from mtl_jax.data import cache, source
from mtl_jax.types import InputError
from tests.data.builder import build, encoded

COUNTS = {"train": 60, "test": 10}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "COUNTS", COUNTS)


def examples(split):
    """Draw images, two of which are the same with another label."""
    rng = np.random.default_rng([len(split)])
    x = rng.integers(256, size=(COUNTS[split], 28, 28), dtype=np.uint8)
    x[7] = x[3]
    return x, (-np.arange(COUNTS[split]) % 10).astype(np.uint8)


def write_files(folder, splits=("train", "test"), ending=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    compress = gzip.compress if ending else bytes
    for split in splits:
        for part, magic, a in zip(source.PARTS, (2051, 2049), examples(split)):  # noqa: B905
            content = struct.pack(f">{1 + a.ndim}I", magic, *a.shape) + a.tobytes()
            path = folder / f"{source.STEMS[split]}-{part}{ending}"
            path.write_bytes(compress(content))


def prepare(directory, dataset="fashion_mnist", third=None):
    """Build it; ``third`` stands for the third training image."""
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    splits = {
        split: [
            {"image": encoded(image), "label": int(label)}
            for image, label in zip(*examples(split), strict=True)
        ]
        for split in COUNTS
    }
    if third is not None:
        splits["train"][2]["image"] = io.BytesIO(third)
    build(directory, dataset, features, splits)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    prepare(directory)
    return directory


def assert_complete(splits):
    """Check that all examples are there, with their labels, in canonical order."""
    assert list(splits) == ["train", "test"]
    for split, (x, y) in splits.items():
        assert (x.shape[1:], x.dtype, y.dtype) == ((28, 28, 1), np.uint8, np.int32)
        pairs = [
            (image.tobytes(), label) for image, label in zip(x, y.tolist(), strict=True)
        ]
        images, labels = examples(split)
        written = zip(images, labels.tolist(), strict=True)
        assert pairs == sorted((image.tobytes(), label) for image, label in written)


@pytest.mark.parametrize("ending", [".gz", ""])
@pytest.mark.parametrize("inside", [True, False])
def test_reads_official_files(tmp_path, ending, inside):
    write_files(tmp_path / "mnist", ending=ending)
    directory = tmp_path / "mnist" if inside else tmp_path
    splits, origin = source.images("mnist", str(directory))
    assert_complete(splits)
    assert (origin["kind"], origin["folder"]) == ("files", str(tmp_path / "mnist"))
    path = tmp_path / "mnist" / f"t10k-labels-idx1-ubyte{ending}"
    assert origin["files"][path.name] == cache.sha256(path)
    assert len(origin["files"]) == 4


def test_tfds_and_files_give_the_same_arrays(tmp_path, prepared, monkeypatch):
    write_files(tmp_path / "fashion_mnist")
    files, _ = source.images("fashion_mnist", str(tmp_path), "files")
    tfds, origin = source.images("fashion_mnist", str(prepared), "tfds")
    assert origin["kind"] == "tfds"
    assert origin["folder"] == str(prepared / "fashion_mnist" / "3.0.1")
    assert_complete(tfds)
    for split in COUNTS:
        for ours, theirs in zip(files[split], tfds[split], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # The second time they come from the cache.
    monkeypatch.setattr(source, "_decode", None)
    again, _ = source.images("fashion_mnist", str(prepared), "tfds")
    assert_complete(again)


def test_auto_takes_tfds_first_then_what_is_complete(tmp_path, prepared):
    (tmp_path / "fashion_mnist").symlink_to(prepared / "fashion_mnist")
    write_files(tmp_path / "files" / "fashion_mnist")

    def kind(directory, wanted="auto", **kwargs):
        return source.find("fashion_mnist", str(directory), wanted, **kwargs).kind

    assert kind(tmp_path) == "tfds"
    assert kind(tmp_path / "files") == "files"
    both = tmp_path / "both" / "fashion_mnist"
    write_files(both)
    (both / "3.0.1").mkdir()
    for file in (prepared / "fashion_mnist" / "3.0.1").iterdir():
        (both / "3.0.1" / file.name).write_bytes(file.read_bytes())
    assert kind(tmp_path / "both") == "tfds"
    assert kind(tmp_path / "both", "files") == "files"
    next((both / "3.0.1").glob("*train*")).unlink()
    assert kind(tmp_path / "both") == "files"


def test_newest_version_is_read(tmp_path):
    for version in ("3.0.1", "3.0.10", "3.0.9"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").touch()
        for split in COUNTS:
            shard = f"mnist-{split}.array_record-00000-of-00001"
            (tmp_path / "mnist" / version / shard).touch()
    file_set = source.find("mnist", str(tmp_path))
    assert {path.parent.name for path in file_set.files["train"]} == {"3.0.10"}


def test_damaged_prepared_data_is_an_input_error(tmp_path):
    prepare(tmp_path, "mnist")
    shard = next((tmp_path / "mnist" / "3.0.1").glob("*train*"))
    shard.write_bytes(b"")
    with pytest.raises(InputError, match="3.0.1 cannot be read by TFDS.*source=files"):
        source.images("mnist", str(tmp_path))


def png(*shape):
    return encoded(np.zeros(shape, np.uint8)).getvalue()


@pytest.mark.parametrize(
    ("third", "words"),
    [
        (
            b"<html>",
            "cannot be decoded (UnidentifiedImageError: cannot identify image ",
        ),
        (png(28, 28)[:-20], "cannot be decoded ("),
        (png(10_000, 10_000), "is an image of 10000x10000 pixels of type L, expected"),
        (
            png(28, 28, 3),
            "is an image of 28x28 pixels of type RGB, expected 28x28 of L",
        ),
    ],
    ids=["no image", "cut", "large", "colours"],
)
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_damaged_image_of_prepared_data_is_named(tmp_path, third, words):
    prepare(tmp_path, "mnist", third)
    with pytest.raises(InputError) as error:
        source.images("mnist", str(tmp_path))
    (place,) = re.findall(r"3.0.1, train example (\d+), ", str(error.value))
    assert int(place) < 60 and words in str(error.value)
    assert " at 0x" not in str(error.value)


def test_default_directory_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(InputError, match=f"{tmp_path}/tensorflow_datasets/mnist"):
        source.find("mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    write_files(tmp_path / "own" / "mnist")
    assert source.find("mnist").folder == tmp_path / "own" / "mnist"


def test_directory_of_another_name_is_not_taken_for_it(tmp_path):
    write_files(tmp_path / "mnist")
    with pytest.raises(InputError, match="mnist/fashion_mnist"):
        source.find("fashion_mnist", str(tmp_path / "mnist"))


@pytest.mark.parametrize("name", source.NAMES)
@pytest.mark.parametrize("kind", source.SOURCES)
def test_missing_data_says_where_and_how_to_get_it(tmp_path, name, kind):
    with pytest.raises(InputError) as error:
        source.images(name, str(tmp_path), kind)
    words = [str(tmp_path / name), "train-images-idx3-ubyte.gz", "t10k-labels-idx1"]
    command = (
        f"pip install 'mtl_jax[tfds-prepare]' && tfds build {name} "
        f"--file_format=array_record --data_dir={tmp_path}"
    )
    for word in [*words, "TFDS does not have it" if name == "notmnist" else command]:
        assert word in str(error.value)


def test_data_prepared_as_tfrecord_is_to_be_overwritten(tmp_path):
    version = tmp_path / "mnist" / "3.0.1"
    version.mkdir(parents=True)
    (version / "dataset_info.json").touch()
    (version / "mnist-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(InputError, match="--overwrite .*3.0.1 is not complete"):
        source.images("mnist", str(tmp_path))


def test_one_split_is_enough_only_if_asked(tmp_path):
    write_files(tmp_path / "mnist", splits=["test"])
    with pytest.raises(InputError, match="no train split") as error:
        source.images("mnist", str(tmp_path))
    assert "t10k" not in str(error.value)
    splits, _ = source.images("mnist", str(tmp_path), partial=True)
    assert list(splits) == ["test"]


def test_too_few_examples(tmp_path, monkeypatch):
    write_files(tmp_path / "mnist")
    monkeypatch.setattr(source, "COUNTS", {"train": 61, "test": 10})
    with pytest.raises(InputError, match="60 train examples in .*/mnist, expected 61"):
        source.images("mnist", str(tmp_path))


def test_no_examples(tmp_path):
    write_files(tmp_path / "mnist")
    for part, header in zip(source.PARTS, ((2051, 0, 28, 28), (2049, 0)), strict=True):
        content = struct.pack(f">{len(header)}I", *header)
        (tmp_path / "mnist" / f"t10k-{part}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="0 test examples"):
        source.images("mnist", str(tmp_path))


@pytest.mark.parametrize("arguments", [("emnist",), ("mnist", "", "web")])
def test_unknown_words(arguments):
    with pytest.raises(InputError, match=f"{arguments[-1]}.* is not one of: "):
        source.images(*arguments)


def test_official_counts(monkeypatch):
    monkeypatch.undo()
    assert source.COUNTS == {"train": 60_000, "test": 10_000}


def test_missing_data_does_not_import_tfds(tmp_path):
    program = (
        "import sys; from mtl_jax.data import source\n"
        f"try: source.find('mnist', {str(tmp_path)!r})\n"
        "except ValueError: print({'tensorflow_datasets', 'sklearn'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
