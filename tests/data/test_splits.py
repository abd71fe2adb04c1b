import gzip
import itertools
import logging
import struct
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import LOADERS, digits, division, fashion_mtl, mnists, source
from mtl_jax.types import InputError
from tests.data.soundness import assert_seeded, assert_sound, everything, sizes


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Write the official tree; the first three pixels of an image spell its number."""
    root = tmp_path_factory.mktemp("official")
    numbers = itertools.count()
    for task, split in itertools.product(mnists.TASKS, source.COUNTS):
        # Fashion-MNIST in full size, the others a hundred times smaller.
        n = source.COUNTS[split] // (1 if task == "fashion_mnist" else 100)
        labels = np.array(list(itertools.islice(numbers, n)), ">u4")
        x = np.zeros((n, 784), np.uint8)
        x[:, :3] = labels.view(np.uint8).reshape(n, 4)[:, 1:]
        (root / task).mkdir(exist_ok=True)
        headers = struct.pack(">4I", 2051, n, 28, 28), struct.pack(">2I", 2049, n)
        bodies = x.tobytes(), (labels % 10).astype(np.uint8).tobytes()
        for part, header, body in zip(source.PARTS, headers, bodies, strict=True):
            path = root / task / f"{source.STEMS[split]}-{part}.gz"
            path.write_bytes(gzip.compress(header + body, 1))
    return root


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(source, "COUNTS", {"train": 600, "test": 100})
    sizes = {split: size // 100 for split, size in mnists.SIZES.items()}
    monkeypatch.setattr(mnists, "SIZES", sizes)
    sizes = {split: size // 100 for split, size in fashion_mtl.SIZES.items()}
    monkeypatch.setattr(fashion_mtl, "SIZES", sizes)


def number(x):
    return x.reshape(len(x), -1)[:, :3].astype(int) @ [65536, 256, 1]


@pytest.fixture(scope="module")
def fashion(directory, tmp_path_factory):
    """Make a tree without NotMNIST."""
    root = tmp_path_factory.mktemp("fashion")
    (root / "fashion_mnist").symlink_to(directory / "fashion_mnist")
    return str(root)


def test_fashion_mtl(fashion, caplog):
    dataset = fashion_mtl.load(fashion)
    assert_sound(dataset)
    assert dataset.tasks == ("fashion_1", "fashion_2", "noisy_fashion")
    (remark,) = dataset.provenance["remarks"]
    assert "notmnist is left out" in remark and remark in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert sizes(dataset) == {
        "train": (25_000,) * 3,
        "validation": (5_000,) * 3,
        "test": (5_000,) * 3,
    }
    numbers, first = number(dataset.x), 700  # MNIST has the numbers before
    halves = np.concatenate([of_task(dataset, task) for task in (0, 1)])
    assert sorted(numbers[halves]) == list(range(first, first + 70_000))
    np.testing.assert_array_equal(numbers[halves] % 10, dataset.y[halves])
    for split, of_tasks in dataset.rows.items():
        is_test = numbers[np.concatenate(of_tasks)] >= first + 60_000
        assert is_test.all() if split == "test" else not is_test.any()
        for task in of_tasks:  # spread over the whole split, not a block of it
            assert np.ptp(numbers[task]) > 0.99 * (10_000 if is_test.all() else 60_000)


def test_labels_of_noisy_fashion_are_permuted_in_every_split(fashion):
    dataset = fashion_mtl.load(fashion)
    for _, rows, noisy in dataset.rows.values():
        np.testing.assert_array_equal(dataset.x[rows], dataset.x[noisy])
        y, permuted = dataset.y[rows], dataset.y[noisy]
        np.testing.assert_array_equal(np.bincount(y), np.bincount(permuted))
        deviation = (0.1 * 0.9 / len(y)) ** 0.5  # ten classes of one size
        assert abs((y == permuted).mean() - 0.1) < 4 * deviation


@pytest.mark.parametrize("noise", [0, 0.25])
def test_share_of_labels_that_are_permuted(noise, fashion):
    whole, part = (fashion_mtl.load(fashion, noise=share) for share in (1.0, noise))
    for split, rows in part.rows.items():
        for task in (0, 1):  # the other tasks see no difference
            for a, b in ((whole.x, part.x), (whole.y, part.y)):
                np.testing.assert_array_equal(a[whole.rows[split][task]], b[rows[task]])
        y, permuted = part.y[rows[1]], part.y[rows[2]]
        assert abs((y != permuted).mean() - 0.9 * noise) < 0.02
        np.testing.assert_array_equal(np.bincount(y), np.bincount(permuted))


@pytest.mark.parametrize("noise", [-0.1, 1.1])
def test_noise_is_a_share(noise, fashion):
    with pytest.raises(InputError, match=f"data.noise is {noise}.* between 0 and 1"):
        fashion_mtl.load(fashion, noise=noise)


def test_fashion_mtl_is_seeded(fashion):
    first, again, other = (fashion_mtl.load(fashion, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    for rows in first.rows.values():  # the same rows for every seed, of other images
        for task in rows[:2]:
            assert set(number(first.x[task])) != set(number(other.x[task]))


@pytest.mark.usefixtures("small")
def test_fashion_mtl_with_letters(directory, fashion):
    dataset = fashion_mtl.load(str(directory))
    assert_sound(dataset)
    assert dataset.tasks[3:] == ("notmnist",) and dataset.provenance["remarks"] == []
    assert sizes(dataset) == {"train": (250,) * 4} | dict.fromkeys(
        ("validation", "test"), (50,) * 4
    )
    numbers, start = number(dataset.x), 70_700  # those of Fashion-MNIST and MNIST
    for split, (*_, rows) in dataset.rows.items():
        assert (numbers[rows] >= start + (600 if split == "test" else 0)).all()
        assert (numbers[rows] < start + (700 if split == "test" else 600)).all()
        np.testing.assert_array_equal(numbers[rows] % 10, dataset.y[rows])
    without = fashion_mtl.load(fashion)  # which is the same but for that task
    for split, rows in without.rows.items():
        for task in range(3):
            here = dataset.rows[split][task]
            np.testing.assert_array_equal(dataset.x[here], without.x[rows[task]])
            np.testing.assert_array_equal(dataset.y[here], without.y[rows[task]])


@pytest.mark.usefixtures("small")
def test_fashion_mtl_with_a_part_of_the_letters(directory, fashion, tmp_path, caplog):
    (tmp_path / "notmnist").mkdir()
    for path in directory.glob("notmnist/t10k*"):
        (tmp_path / "notmnist" / path.name).symlink_to(path)
    (tmp_path / "fashion_mnist").symlink_to(Path(fashion) / "fashion_mnist")
    dataset = fashion_mtl.load(str(tmp_path))
    assert_sound(dataset)
    assert {split: n[3] for split, n in sizes(dataset).items()} == {
        "train": 100 * 25 // 35,
        "validation": 100 * 5 // 35,
        "test": 100 * 5 // 35,
    }
    (remark,) = dataset.provenance["remarks"]
    assert "notmnist: only the test split" in remark and remark in caplog.text


def test_sizes_of_mnists_are_the_stated_ones():
    assert mnists.SIZES == {"train": 50_000, "validation": 5_000, "test": 5_000}


@pytest.mark.usefixtures("small")
def test_mnists(directory):
    dataset = mnists.load(str(directory))
    assert_sound(dataset)
    assert sizes(dataset)["train"] == (500,) * 3
    assert sizes(dataset)["validation"] == sizes(dataset)["test"] == (50,) * 3
    numbers = number(dataset.x)
    np.testing.assert_array_equal(numbers % 10, dataset.y)
    starts = np.cumsum([0, 600, 100, 60_000, 10_000, 600, 100])
    for split, of_tasks in dataset.rows.items():
        for task, rows in enumerate(of_tasks):
            place = 2 * task + (split == "test")
            assert (numbers[rows] >= starts[place]).all()
            assert (numbers[rows] < starts[place + 1]).all()
    assert dataset.provenance["remarks"] == []


@pytest.mark.usefixtures("small")
def test_mnists_is_seeded(directory):
    assert_seeded(lambda seed: mnists.load(str(directory), seed=seed))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", [0, 2])
def test_mnists_with_a_split_missing(task, split, directory, tmp_path, caplog):
    name = mnists.TASKS[task]
    for file in directory.glob("*/*"):
        if not (file.parent.name == name and file.name.startswith(source.STEMS[split])):
            (tmp_path / file.parent.name).mkdir(exist_ok=True)
            (tmp_path / file.parent.name / file.name).symlink_to(file)
    with pytest.raises(InputError) as error:
        mnists.load(str(tmp_path))
    file = f"{source.STEMS[split]}-images-idx3-ubyte.gz"
    for word in (str(tmp_path / name), file, "--config.data.partial=True"):
        assert word in str(error.value)

    assert not caplog.records
    dataset = mnists.load(str(tmp_path), partial=True)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (remark,) = dataset.provenance["remarks"]
    assert name in remark and remark in caplog.text
    assert_sound(dataset)
    n = 100 if split == "train" else 600  # examples of the other split
    expected = {"train": n * 50 // 60, "validation": n * 5 // 60, "test": n * 5 // 60}
    assert {s: of_tasks[task] for s, of_tasks in sizes(dataset).items()} == expected

    complete = mnists.load(str(directory), partial=True)
    for part, rows in dataset.rows.items():  # the other tasks see no difference
        for other in {0, 1, 2} - {task}:
            drawn, before = (
                dataset.x[rows[other]],
                complete.x[complete.rows[part][other]],
            )
            np.testing.assert_array_equal(number(drawn), number(before))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(10_000, [8_333, 833, 833]), (59_999, [49_999, 4_999, 4_999])]
    + [(count, [50_000, 5_000, 5_000]) for count in (60_000, 90_000)],
)
def test_division_of_the_only_official_split(count, expected):
    rng = np.random.default_rng(0)
    rows = division.divide(rng, {"test": count}, mnists.SIZES)
    assert [len(drawn) for drawn in rows.values()] == expected
    together = np.concatenate(list(rows.values()))
    assert len(set(together)) == len(together) and together.max() < count
    assert np.ptp(rows["test"]) > 0.99 * count


@pytest.mark.usefixtures("small")
def test_mnists_without_any_file_of_a_task(directory, tmp_path):
    (tmp_path / "mnist").symlink_to(directory / "mnist")
    with pytest.raises(InputError, match="fashion_mnist has no train and no test"):
        mnists.load(str(tmp_path), partial=True)


@pytest.mark.parametrize("relation", digits.RELATIONS)
@pytest.mark.parametrize("tasks", [2, 3, 10])
def test_digits(tasks, relation):
    dataset = digits.load(tasks=tasks, relation=relation)
    assert_sound(dataset)
    assert dataset.x.shape == (1797, 8, 8, 1) and dataset.x.max() == 255
    assert len(dataset.tasks) == tasks
    expected = {2: (449, 150, 299), 3: (299, 100, 200), 10: (89, 30, 60)}[tasks]
    assert [set(n) for n in sizes(dataset).values()] == [{n} for n in expected]
    assert relation in dataset.provenance["remarks"][0]


@pytest.mark.parametrize("relation", digits.RELATIONS)
def test_digits_is_seeded(relation):
    assert_seeded(lambda seed: digits.load(seed, relation=relation))


def of_task(dataset, task):
    return np.concatenate([rows[task] for rows in dataset.rows.values()])


def test_transformed_digits_differ_in_pixels_only():
    same, turned = (digits.load(1, 6, relation=r) for r in ("same", "transformed"))
    np.testing.assert_array_equal(same.y, turned.y)
    np.testing.assert_array_equal(everything(same), everything(turned))
    for task in range(4):
        rows = of_task(same, task)
        expected = np.stack([np.rot90(image, task) for image in same.x[rows]])
        np.testing.assert_array_equal(turned.x[rows], expected)
    maps = []
    for task in (4, 5):
        rows = of_task(same, task)
        before, after = (d.x[rows].reshape(-1, 64) for d in (same, turned))
        np.testing.assert_array_equal(np.sort(before, 1), np.sort(after, 1))
        # One permutation for all images: the columns are those of before.
        columns = [column.tobytes() for column in before.T]
        maps.append([columns.index(column.tobytes()) for column in after.T])
        assert maps[-1] != [columns.index(column) for column in columns]
    assert maps[0] != maps[1]


def test_conflicting_digits_differ_in_labels_only():
    same, conflicting = (digits.load(1, 3, r) for r in ("same", "conflicting"))
    np.testing.assert_array_equal(same.x, conflicting.x)
    np.testing.assert_array_equal(everything(same), everything(conflicting))
    agreement = [
        (same.y == conflicting.y)[of_task(same, task)].mean() for task in range(3)
    ]
    assert agreement[0] == 1
    assert max(agreement[1:]) < 0.15  # chance is 0.1


def test_digits_out_of_range():
    for tasks in (1, 11):
        with pytest.raises(InputError, match=f"{tasks} tasks .* 2 to 10"):
            digits.load(tasks=tasks)
    with pytest.raises(InputError, match="'other'.*same, transformed, conflicting"):
        digits.load(relation="other")


def test_loaders_are_named_after_their_setting():
    named = {"celeba", "cifar100", "cityscapes", "digits", "fashion_mtl", "mnists"}
    assert set(LOADERS) == named | {"glue", "glue_text", "folder"}
    assert LOADERS["digits"]().tasks == ("digits_0", "digits_1", "digits_2")
