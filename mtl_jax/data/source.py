"""Data sets of images, as prepared by TFDS or from the official files.

Nothing is downloaded: `find` looks for the data at once and says how to get it;
`read` decodes its files, or takes the arrays from the cache.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mtl_jax.data import cache, celeba_files, cifar, idx, image
from mtl_jax.options import one_of
from mtl_jax.storage import reason
from mtl_jax.types import DataMissing, InputError

Files = dict[str, tuple[Path, ...]]
"""Per split, the files that it is read from."""
Split = tuple[np.ndarray, ...]
"""uint8 images ``[N, H, W, C]`` and, of every kind of label, int32 ``[N]``."""

STEMS = {"train": "train", "test": "t10k"}
"""Beginning of the MNIST family's official file names of a split."""
PARTS = ("images-idx3-ubyte", "labels-idx1-ubyte")
"""The rest of these names, but for .gz."""
COUNTS = {"train": 60_000, "test": 10_000}
"""Examples of an official split of the MNIST family; fewer is an error."""
SOURCES = {"auto": ("tfds", "files"), "tfds": ("tfds",), "files": ("files",)}
NAMES = ("mnist", "fashion_mnist", "notmnist")
"""The MNIST family."""


class FileSet(NamedTuple):
    """The files of a data set, none of which has been read yet."""

    name: str
    """Name of the data set."""
    kind: str
    """``tfds`` or ``files``."""
    folder: Path
    """The folder ``<directory>/<name>``, or the directory itself if so named."""
    files: Files
    """TFDS's shards, or official files, of the splits that are there."""


@dataclasses.dataclass(frozen=True)
class DiskFormat:
    """The files in which a data set is distributed, officially and by TFDS."""

    splits: tuple[str, ...]
    official: Callable[[Path], Files]
    """Finds the official files in a folder, of the splits that are there."""
    missing: Callable[[Path, list[str]], str]
    """Lists the official files of these splits that a folder lacks, for people."""
    tfds_name: str
    """TFDS's name; empty where TFDS does not have it."""

    def find(self, kind: str, root: Path, name: str) -> FileSet:
        """Look for the files of a data set, official ones or those that TFDS made."""
        folder = named(root, name)
        if kind == "files":
            return FileSet(name, kind, folder, self.official(folder))
        theirs = self.tfds_name or name
        files = shards(named(root, theirs), theirs, self.splits)
        return FileSet(name, kind, folder, files)


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """The form of a data set's examples, images with one or more labels each."""

    read_official: Callable[[tuple[Path, ...]], Split]
    """Reads the official files of a split."""
    shape: tuple[int, int, int]
    """Shape of an image."""
    labels: dict[str, tuple[str, int]]
    """Per kind of label, TFDS's feature and the number of classes."""

    def read(self, file_set: FileSet, split: str) -> Split:
        """Read all examples of a split, in the order of its files."""
        files = file_set.files[split]
        if file_set.kind == "tfds":
            return self._read_prepared(split, files)
        return self.read_official(files)

    def _read_prepared(self, split: str, shards: tuple[Path, ...]) -> Split:
        """Read all examples of a split that TFDS prepared."""
        version = shards[0].parent
        try:
            data = prepared(shards, split, encoded=("image",))
            examples = data.__getitems__(range(len(data)))
            encoded = [example["image"] for example in examples]
            labels = tuple(
                np.array([example[feature] for example in examples], np.int32)
                for feature, _ in self.labels.values()
            )
        except Exception as error:  # damage shows as five unrelated types
            raise unreadable(version, error) from error
        x = np.empty((len(encoded), *self.shape), np.uint8)
        for i, png in enumerate(encoded):
            where = f"{version}, {split} example {i},"
            x[i] = _pixels(where, png, self.shape)
        for y, (feature, classes) in zip(labels, self.labels.values(), strict=True):
            wrong = np.flatnonzero((y < 0) | (y >= classes))
            if wrong.size:
                raise InputError(
                    f"{version}, {split} example {wrong[0]}, has the {feature} "
                    f"{y[wrong[0]]}, expected 0..{classes - 1}; prepare the official "
                    "data set"
                )
        return x, *labels


def images(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Read the splits ``train`` and ``test``, and where they came from.

    Examples come in one canonical order (by pixels, then label): TFDS shuffles
    when it prepares, and so a seed picks the same examples from either source.

    Args:
      name: one of `IMAGE_FORMATS`.
      directory: root folder; empty for TFDS's own ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      source: one of `SOURCES`.
      partial: whether one of the two splits is enough.
    """
    return read(find(name, directory, source, partial))


def find(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> FileSet:
    """Look for the files of a data set of `DISK_FORMATS`; arguments as in `images`.

    Raises:
      DataMissing: it is not there; the message says where, and how to get it.
    """
    on_disk = DISK_FORMATS[one_of("data set", name, DISK_FORMATS)]
    one_of("data.source", source, SOURCES)
    root = root_folder(directory)
    candidates = [on_disk.find(kind, root, name) for kind in SOURCES[source]]
    file_set = max(candidates, key=lambda candidate: len(candidate.files))
    there = len(file_set.files)
    if not there or (there < len(on_disk.splits) and not partial):
        raise DataMissing(absence(file_set))
    return file_set


def read(
    file_set: FileSet, counts: dict[str, int] | None = None
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Decode the files: splits as in `images`, and where they came from.

    Args:
      file_set: files of a data set in `IMAGE_FORMATS`.
      counts: examples that a split must have; None for `COUNTS`.

    Raises:
      InputError: a file is damaged, or a split holds fewer examples.
    """
    counts = COUNTS if counts is None else counts
    digests = file_digests(file_set)
    arrays = cache.arrays(file_set.name, digests, lambda: _decode(file_set))
    parts = ("x", *IMAGE_FORMATS[file_set.name].labels)
    splits = {s: tuple(arrays[f"{s}_{part}"] for part in parts) for s in file_set.files}
    for split, (x, *_) in splits.items():
        if len(x) < counts.get(split, 0):
            raise InputError(
                f"{file_set.name} has {len(x)} {split} examples in {file_set.folder}, "
                f"expected {counts[split]}; get the complete official data"
            )
    return splits, origin(file_set, digests)


def file_digests(file_set: FileSet) -> dict[str, str]:
    """Return the sha256 of every file, under its name."""
    paths = [path for files in file_set.files.values() for path in files]
    try:
        return {path.name: cache.sha256(path) for path in paths}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable"
        ) from error


def origin(file_set: FileSet, digests: dict[str, str]) -> dict[str, Any]:
    """Say where a data set came from, for `Dataset.provenance`."""
    folder = next(iter(file_set.files.values()))[0].parent
    return {"kind": file_set.kind, "folder": str(folder), "files": digests}


def absence(file_set: FileSet) -> str:
    """Say which splits are missing, where, and the ways to get them."""
    on_disk, folder = DISK_FORMATS[file_set.name], file_set.folder
    missing = [split for split in on_disk.splits if split not in file_set.files]
    text = (
        f"{file_set.name} has no {' and no '.join(missing)} split in {folder} "
        "(--config.data.source and --config.data.dir say where to look). "
        f"Put the official files there: {on_disk.missing(folder, missing)}"
    )
    if not on_disk.tfds_name:
        return f"{text} (TFDS does not have it)"
    return f"{text}; or prepare it with TFDS: " + build_command(
        folder.parent, (on_disk.tfds_name,)
    )


def build_command(root: Path, names: Sequence[str], options: str = "") -> str:
    """Say what prepares data sets with TFDS; ``options`` are those of ``tfds``."""
    command = (
        f"pip install 'mtl_jax[tfds-prepare]' && tfds build {' '.join(names)} "
        f"{options}--file_format=array_record --data_dir={root}"
    )
    there = (info for n in names for info in (root / n).glob("*/dataset_info.json"))
    prepared = next(there, None)
    if prepared:  # most likely as tfrecord, the default of TFDS
        command += f" --overwrite ({prepared.parent} is not complete in array_record)"
    return command


def root_folder(directory: str) -> Path:
    """Return the folder of all data sets, TFDS's own if no directory is given.

    Raises:
      InputError: its name is none, or it may not be looked at.
    """
    root = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    path = Path(os.path.abspath(os.path.expanduser(root)))
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever looks into it says what it lacks
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"data.dir {str(path)!r} cannot be looked into ({why}); name another"
        ) from error
    return path


def named(root: Path, name: str) -> Path:
    """Return the folder of that name in the root, or the root if it is it."""
    return root if root.name == name and not (root / name).is_dir() else root / name


def _official(folder: Path) -> Files:
    """Find the MNIST family's files per split that has images and labels."""
    files = {}
    for split, stem in STEMS.items():
        for ending in (".gz", ""):
            pair = tuple(folder / f"{stem}-{part}{ending}" for part in PARTS)
            if all(path.is_file() for path in pair):
                files.setdefault(split, pair)
    return files


def _missing(folder: Path, splits: list[str]) -> str:
    del folder
    return ", ".join(f"{STEMS[s]}-{part}.gz" for s in splits for part in PARTS)


def shards(folder: Path, name: str, splits: tuple[str, ...]) -> Files:
    """Find TFDS's array-record files per split, of the newest version that has any.

    Args:
      folder: holds the versions.
      name: of the data set, with which the files' names begin.
      splits: as TFDS calls them.
    """
    versions = {
        tuple(int(number) for number in info.parent.name.split(".")): info.parent
        for info in folder.glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    }
    for _, version in sorted(versions.items(), reverse=True):
        files = {}
        for split in splits:
            paths = sorted(version.glob(f"{name}-{split}.array_record*"))
            if paths:
                files[split] = tuple(paths)
        if files:
            return files
    return {}


def _decode(file_set: FileSet) -> cache.Arrays:
    """Read all splits from the source, in canonical order."""
    form = IMAGE_FORMATS[file_set.name]
    arrays = {}
    for split in file_set.files:
        x, y, *rest = form.read(file_set, split)
        pixels = x.reshape(len(x), math.prod(form.shape))
        keys = np.column_stack([pixels, y.astype(np.uint8)])
        order = np.argsort(keys.view(f"V{keys.shape[1]}")[:, 0], kind="stable")
        for part, array in zip(("x", *form.labels), (x, y, *rest), strict=True):
            arrays[f"{split}_{part}"] = array[order]
    return arrays


def unreadable(version: Path, error: Exception) -> InputError:
    """Make the error for data that TFDS prepared and cannot read."""
    return InputError(
        f"{version} cannot be read by TFDS ({reason.of(error)}); "
        "prepare it again, or pass --config.data.source=files"
    )


def prepared(
    shards: tuple[Path, ...], split: str, encoded: tuple[str, ...] = ()
) -> Any:
    """Open a split that TFDS prepared as array_record, without TensorFlow.

    Args:
      shards: its files.
      split: its name.
      encoded: features that are to be left as they are stored.
    """
    import tensorflow_datasets as tfds  # a third of a second, so only here

    builder: Any = tfds.builder_from_directory(shards[0].parent)
    decoders: Any = {feature: tfds.decode.SkipDecoding() for feature in encoded}
    return builder.as_data_source(split, decoders=decoders or None)


def _pixels(where: str, encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode a PNG of a shape ``[H, W, C]``."""
    mode = "L" if shape[2] == 1 else "RGB"

    def check(image: Image.Image) -> None:
        width, height = image.size
        if (height, width) != shape[:2] or image.mode != mode:
            raise InputError(
                f"{where} is an image of {height}x{width} pixels of type {image.mode}, "
                f"expected {shape[0]}x{shape[1]} of {mode}; prepare the official data "
                "set"
            )

    decoded = image.decode(where, encoded, "PNG", check, "prepare it again")
    return np.asarray(decoded).reshape(shape)


_MNISTS = DiskFormat(tuple(STEMS), _official, _missing, "")
_IDX = ImageFormat(lambda files: idx.pair(*files), (28, 28, 1), {"y": ("label", 10)})
_CELEBA = DiskFormat(
    celeba_files.SPLITS, celeba_files.official, celeba_files.missing, "celeb_a"
)
_CIFAR100 = DiskFormat(cifar.SPLITS, cifar.official, cifar.missing, "cifar100")
_CIFAR100_LABELS = {
    "y": ("label", cifar.FINE),
    "coarse": ("coarse_label", cifar.COARSE),
}

DISK_FORMATS = {
    "mnist": dataclasses.replace(_MNISTS, tfds_name="mnist"),
    "fashion_mnist": dataclasses.replace(_MNISTS, tfds_name="fashion_mnist"),
    "notmnist": _MNISTS,
    "cifar100": _CIFAR100,
    "celeba": _CELEBA,
}
"""Data sets that `find` looks for."""
IMAGE_FORMATS = {
    **dict.fromkeys(NAMES, _IDX),
    "cifar100": ImageFormat(cifar.read, cifar.SHAPE, _CIFAR100_LABELS),
}
"""Data sets that `read` decodes into the cache as a whole."""
