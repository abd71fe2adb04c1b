import io
import logging
import pickle
import shutil
import struct
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs import cifar100 as config
from mtl_jax.data import cifar, cifar100
from mtl_jax.training.setting import make_setting
from mtl_jax.types import DataMissing, InputError
from tests.data.builder import build, encoded
from tests.data.soundness import assert_seeded, assert_sound, everything, sizes

COUNTS = {"train": 10, "test": 4}
"""Examples of a class; a hundredth and a twenty-fifth of the official ones."""
COARSE = np.random.default_rng(5).permutation(np.repeat(np.arange(20), 5))
"""A superclass for every class."""


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar100, "COUNTS", COUNTS)


def examples(split, per_class=None):
    """Shuffle images, of which the first pixel tells class and split."""
    rng = np.random.default_rng([len(split)])
    n = 100 * (per_class or COUNTS[split])
    x = rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8)
    fine = rng.permutation(np.arange(n) % 100).astype(np.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = fine, len(split)
    return x, fine, COARSE[fine].astype(np.uint8)


def planes(x):
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def write_binary(folder, split, x, fine, coarse):
    folder.mkdir(parents=True, exist_ok=True)
    records = np.column_stack([coarse, fine, planes(x)]).astype(np.uint8)
    (folder / f"{split}.bin").write_bytes(records.tobytes())


Pickler: Any = vars(pickle)["_Pickler"]  # the one in Python, which can be extended


class Python2(Pickler):
    """Writes bytes as Python 2 wrote its strings, as the official pickles have them."""

    dispatch = dict(Pickler.dispatch)

    def save_bytes(self, obj):
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes


def pickled(split, x, fine, coarse, as_python2=True):
    content = {
        b"filenames": [b"%d.png" % i for i in range(len(x))],
        b"batch_label": split.encode(),
        b"fine_labels": fine.tolist(),
        b"coarse_labels": coarse.tolist(),
        b"data": planes(x),
    }
    file = io.BytesIO()
    kind = Python2 if as_python2 else pickle.Pickler
    kind(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.multi", b"numpy.core.multi")


def write_python(folder, split, *arrays, **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / split).write_bytes(pickled(split, *arrays, **options))
    (folder / "meta").write_bytes(b"not looked at")


def prepare(directory):
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(num_classes=100),
        "coarse_label": tfds.features.ClassLabel(num_classes=20),
    }
    splits = {
        split: [
            {"id": "?", "image": encoded(x), "label": int(y), "coarse_label": int(c)}
            for x, y, c in zip(*examples(split), strict=True)
        ]
        for split in COUNTS
    }
    build(directory, "cifar100", features, splits)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    prepare(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    for split in COUNTS:
        write_binary(root / "cifar100", split, *examples(split))
    return root


def assert_same(dataset, other):
    np.testing.assert_array_equal(dataset.x, other.x)
    np.testing.assert_array_equal(dataset.y, other.y)
    np.testing.assert_array_equal(everything(dataset), everything(other))


def classes(dataset):
    """Return the classes of every task, by the pixels; evaluation has the same."""
    fine = dataset.x[:, 0, 0, 0]
    classes_of = {
        split: [frozenset(fine[rows].tolist()) for rows in of_tasks]
        for split, of_tasks in dataset.rows.items()
    }
    pairs = zip(classes_of["validation"], classes_of["test"], strict=True)
    assert classes_of["train"] == [validation | test for validation, test in pairs]
    return classes_of["train"]


def superclasses(task):
    return {int(COARSE[number]) for number in task}


@pytest.mark.parametrize("grouping", cifar100.GROUPINGS)
def test_groupings(directory, grouping):
    dataset = cifar100.load(str(directory), grouping=grouping)
    assert_sound(dataset)
    assert len(everything(dataset)) == len(dataset.x) == 1_400
    assert dataset.x.shape == (1_400, 32, 32, 3)
    groups = classes(dataset)
    tasks, width = (20, 5) if grouping == "coarse" else (10, 10)
    assert [len(group) for group in groups] == [width] * tasks
    assert frozenset.union(*groups) == set(range(100))
    assert dataset.widths == (width,) * tasks
    assert len(set(dataset.tasks)) == len(dataset.tasks) == tasks
    expected = (40, 10, 20) if grouping == "coarse" else (100, 20, 20)
    assert [set(n) for n in sizes(dataset).values()] == [{n} for n in expected]
    is_test = dataset.x[:, 0, 0, 1] == len("test")
    for split, rows in dataset.rows.items():
        from_test = split == "test" or (split == "validation" and tasks == 10)
        assert (is_test[np.concatenate(rows)] == from_test).all()
        for group, r in zip(groups, rows, strict=True):  # labels in label order
            fine = dataset.x[r, 0, 0, 0]
            np.testing.assert_array_equal(np.array(sorted(group))[dataset.y[r]], fine)
    assert len(dataset.provenance["remarks"]) == 1
    assert grouping in dataset.provenance["remarks"][0]


def test_what_a_grouping_means(directory):
    def of(grouping, **options):
        return cifar100.load(str(directory), grouping=grouping, **options)

    by_labels = of("labels")
    assert by_labels.tasks[3] == "labels_3"
    assert classes(by_labels) == [
        frozenset(range(ten, ten + 10)) for ten in range(0, 100, 10)
    ]
    coarse = of("coarse")
    assert [superclasses(g) for g in classes(coarse)] == [{t} for t in range(20)]
    assert coarse.tasks[:2] + coarse.tasks[-1:] == (
        "aquatic_mammals",
        "fish",
        "vehicles_2",
    )
    pairs = [superclasses(group) for group in classes(of("superclasses"))]
    assert pairs == [{2 * t, 2 * t + 1} for t in range(10)]
    drawn = [classes(of("random", grouping_seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    # The seed of the splits does not change the tasks.
    assert classes(of("random", seed=1)) == drawn[0]


@pytest.mark.parametrize("grouping", ["labels", "coarse"])
def test_is_seeded(directory, grouping):
    def load(seed):
        return cifar100.load(str(directory), seed=seed, grouping=grouping)

    assert_seeded(
        load, ("train", "validation") if grouping == "coarse" else ("validation",)
    )


def test_all_sources_give_the_same(directory, prepared, tmp_path):
    kinds = {
        "binary": ("cifar100", write_binary, {}),
        "unpacked": ("cifar100/cifar-100-binary", write_binary, {}),
        "python": ("cifar100/cifar-100-python", write_python, {}),
        "python 3": ("cifar100", write_python, {"as_python2": False}),
        "beside": ("cifar-100-python", write_python, {}),
    }
    expected = cifar100.load(str(directory), seed=1)
    assert expected.provenance["sources"]["cifar100"]["kind"] == "files"
    for kind, (folder, write, options) in kinds.items():
        for split in COUNTS:
            x, fine, coarse = examples(split)
            order = np.random.default_rng().permutation(len(x))
            arrays = x[order], fine[order], coarse[order]
            write(tmp_path / kind / folder, split, *arrays, **options)
        dataset = cifar100.load(str(tmp_path / kind), seed=1)
        assert_same(dataset, expected)
        origin = dataset.provenance["sources"]["cifar100"]
        assert origin["folder"] == str(tmp_path / kind / folder)
    dataset = cifar100.load(str(prepared), seed=1)
    assert dataset.provenance["sources"]["cifar100"]["kind"] == "tfds"
    assert_same(dataset, expected)


def test_images_are_upright_and_in_colour(directory):
    x, _, _ = cifar.read((directory / "cifar100" / "train.bin",))
    np.testing.assert_array_equal(x, examples("train")[0])


def test_arrays_in_fortran_order_and_of_protocol_0(tmp_path):
    x, fine, coarse = examples("test")
    content = {
        b"data": np.asfortranarray(planes(x)),
        b"fine_labels": fine.tolist(),
        b"coarse_labels": coarse.tolist(),
    }
    (tmp_path / "test").write_bytes(pickle.dumps(content, protocol=0))
    for ours, theirs in zip(cifar.read((tmp_path / "test",)), (x, fine, coarse)):  # noqa: B905
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "numpy.load"])
@pytest.mark.parametrize("where", ["alone", "in the data"])
def test_pickle_runs_nothing(tmp_path, name, where):
    ran = tmp_path / "ran"
    content = f"c{name.replace('.', chr(10))}\n(S'touch {ran}'\ntR.".encode()
    if where == "in the data":
        content = PICKLE.replace(b"cnumpy\nndarray\n", content[:-1])
    path = tmp_path / "train"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        cifar.read((path,))
    assert str(path) in str(error.value)
    assert f"it asks for {name}, which is refused" in str(error.value)
    assert not ran.exists()


def test_parts_of_arrays_cannot_be_misused(tmp_path):
    path = tmp_path / "train"
    for state in (
        b"I1\n",
        b"(tI1\n",
        b"(I1\n(I9\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS''\nt",
    ):
        array = b"cnumpy\nndarray\n(tR" + state + b"b"
        path.write_bytes(
            b"(dS'data'\n" + array + b"sS'fine_labels'\n(lsS'coarse_labels'\n(ls."
        )
        with pytest.raises(InputError, match="is not a complete file"):
            cifar.read((path,))


TINY = (examples("test", 1)[0][:3], np.array([3, 99, 0]), np.array([1, 19, 0]))
PICKLE = pickled("test", *TINY)


def binary(x, fine, coarse):
    return np.column_stack([coarse, fine, planes(x)]).astype(np.uint8).tobytes()


doubled: list = [1]
for _ in range(40):  # 80 lists, and a trillion numbers to whoever walks them
    doubled = [doubled, doubled]
DAMAGE = {
    "truncated": ("train.bin", binary(*TINY)[:-1], ["9221 bytes", "3074", "copy"]),
    "cifar-10": ("train.bin", bytes(2 * 3073), ["6146 bytes", "records of 3074"]),
    "empty": ("train.bin", b"", ["0 bytes", "records of 3074"]),
    "fine label": (
        "train.bin",
        binary(TINY[0], TINY[1] + 1, TINY[2]),
        ["fine label 100 at place 1", "0..99"],
    ),
    "coarse label": (
        "train.bin",
        binary(TINY[0], TINY[1], TINY[2] + 1),
        ["coarse label 20 at place 1", "0..19"],
    ),
    "truncated pickle": ("train", PICKLE[:-40], ["not a complete file", "truncated"]),
    "empty pickle": ("train", b"", ["not a complete file", "EOFError"]),
    "no pickle": ("train", b"<html>", ["not a complete file"]),
    "other pickle": (
        "train",
        pickle.dumps([1], 2),
        ["not a complete file", "TypeError"],
    ),
    "labels of CIFAR-10": (
        "train",
        pickle.dumps({b"data": TINY[0], b"labels": [1]}, 2),
        ["KeyError", "fine_labels"],
    ),
    "floats": (
        "train",
        pickled("train", TINY[0].astype(np.float32), *TINY[1:]),
        ["f4", "expected u1"],
    ),
    "too few labels": (
        "train",
        pickled("train", TINY[0], TINY[1][:2], TINY[2]),
        ["(3, 3072)", "2 fine and 3 coarse", "[N, 3072]"],
    ),
    "lists of lists": (
        "train",
        pickled("train", TINY[0], SimpleNamespace(tolist=lambda: doubled), TINY[2]),
        ["not a complete file", "labels are not whole numbers"],
    ),
    "negative label": (
        "train",
        pickled("train", TINY[0], TINY[1] - 1, TINY[2]),
        ["fine label -1 at place 2"],
    ),
}


@pytest.mark.parametrize("name, content, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        cifar.read((tmp_path / name,))
    for word in [str(tmp_path / name), *words]:
        assert word in str(error.value)


def test_large_file_is_not_read(tmp_path):
    with (tmp_path / "train.bin").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="has 1099511627776 bytes, expected 268435456"):
        cifar.read((tmp_path / "train.bin",))


def test_missing_data_says_within_a_second_how_to_get_it(tmp_path, directory):
    start = time.monotonic()
    with pytest.raises(DataMissing) as error:
        cifar100.load(str(tmp_path))
    assert time.monotonic() - start < 1
    for word in (
        str(tmp_path / "cifar100"),
        "train.bin, test.bin of cifar-100-binary.tar.gz",
        "cifar-100-python.tar.gz",
        f"tfds build cifar100 --file_format=array_record --data_dir={tmp_path}",
    ):
        assert word in str(error.value)
    (tmp_path / "cifar100").mkdir()
    shutil.copy(directory / "cifar100" / "test.bin", tmp_path / "cifar100")
    with pytest.raises(DataMissing, match="no train split.*: train.bin of"):
        cifar100.load(str(tmp_path), partial=True)


def write_some(root, keep):
    """Write only the examples for whose split and class ``keep`` says so."""
    for split in COUNTS:
        arrays = examples(split)
        kept = keep(split, arrays[1])
        write_binary(root / "cifar100", split, *(array[kept] for array in arrays))


def test_partial(tmp_path, caplog):
    write_some(tmp_path, lambda _, fine: np.arange(len(fine)) < 0.7 * len(fine))
    with pytest.raises(InputError, match="700 train examples, . of the class 0, exp"):
        cifar100.load(str(tmp_path))
    assert not caplog.records
    for grouping in cifar100.GROUPINGS:
        dataset = cifar100.load(str(tmp_path), grouping=grouping, partial=True)
        assert_sound(dataset)
        assert len(everything(dataset)) == len(dataset.x) == 980
        counts = sizes(dataset)
        if grouping != "coarse":  # halved to within one
            halves = np.array([counts["validation"], counts["test"]])
            assert set(np.diff(halves, axis=0)[0]) <= {0, 1}
    remark = dataset.provenance["remarks"][1]
    assert "only 700 train, 280 test examples" in remark and remark in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_right_number_of_examples_of_the_wrong_classes(tmp_path):
    for split in COUNTS:
        x, fine, coarse = examples(split)
        fine = np.where(fine == 7, 8, fine)
        write_binary(tmp_path / "cifar100", split, x, fine, COARSE[fine])
    with pytest.raises(InputError, match="1000 train examples, 0 of the class 7"):
        cifar100.load(str(tmp_path))
    with pytest.raises(InputError, match="no train example of the class 7"):
        cifar100.load(str(tmp_path), partial=True)


def test_one_example_of_a_class_is_enough(tmp_path):
    write_some(tmp_path, lambda _, fine: np.unique(fine, return_index=True)[1])
    for grouping, expected in (("labels", (10, 5, 5)), ("coarse", (4, 1, 5))):
        dataset = cifar100.load(str(tmp_path), grouping=grouping, partial=True)
        assert [set(n) for n in sizes(dataset).values()] == [{n} for n in expected]


def test_superclasses_that_contradict_each_other(tmp_path):
    for split in COUNTS:
        x, fine, coarse = examples(split)
        coarse[0] = (coarse[0] + 1) % 20
        write_binary(tmp_path / "cifar100", split, x, fine, coarse)
    with pytest.raises(InputError, match="the class .* in the superclasses .* one"):
        cifar100.load(str(tmp_path))


def test_superclasses_of_unequal_size(tmp_path):
    for split in COUNTS:
        x, fine, _ = examples(split)
        write_binary(tmp_path / "cifar100", split, x, fine, fine % 19)
    with pytest.raises(InputError, match=r"superclasses of \[6, 6, 6, .* 5 each"):
        cifar100.load(str(tmp_path))


def test_options_out_of_range(directory):
    with pytest.raises(InputError, match="'other'.*coarse, labels, random, supercl"):
        cifar100.load(str(directory), grouping="other")
    with pytest.raises(InputError, match="grouping_seed is -1"):
        cifar100.load(str(directory), grouping_seed=-1)
    with pytest.raises(InputError, match="source 'web' is not one of"):
        cifar100.load(str(directory), "web")


def test_official_counts(monkeypatch):
    monkeypatch.undo()
    assert cifar100.COUNTS == {"train": 500, "test": 100}
    assert len(set(cifar100.SUPERCLASSES)) == 20


def test_superclasses_are_the_default(directory):
    assert cifar100.load(str(directory)).tasks == cifar100.SUPERCLASSES


def test_config(directory):
    c: Any = config.get_config()
    c.data.dir = str(directory)
    c.model.resnet.widths = (4, 8, 8, 8)
    made = make_setting(c)
    assert made.data.tasks == cifar100.SUPERCLASSES
