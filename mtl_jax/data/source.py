"""Data sets of images, as prepared by TFDS or from the official files.

Nothing is downloaded: `find` looks for the data at once and says how to get it;
`read` decodes what was found, or takes it from the cache.
"""

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


class Layout(NamedTuple):
    """How a data set lies on the disk."""

    splits: tuple[str, ...]
    official: Callable[[Path], Files]
    """Official files in a folder, of the splits that are there."""
    wanted: Callable[[Path, list[str]], str]
    """Names of the official files of these splits that a folder lacks, for people."""
    prepared: str
    """TFDS's name; empty where TFDS does not have it."""


class Reader(NamedTuple):
    """How examples of a data set are read."""

    official: Callable[[tuple[Path, ...]], Split]
    """Reads the official files of a split."""
    shape: tuple[int, int, int]
    """Of an image."""
    labels: dict[str, tuple[str, int]]
    """Per kind of label, TFDS's feature and the number of classes."""


class Found(NamedTuple):
    """Where a data set lies; nothing has been read yet."""

    name: str
    kind: str
    """``tfds`` or ``files``."""
    folder: Path
    """The folder ``<directory>/<name>``, or the directory itself if so named."""
    files: Files
    """Of the splits that are there: TFDS's shards, or official files."""


def images(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Read the splits ``train`` and ``test``, and where they came from.

    Examples come in one canonical order (by pixels, then label): TFDS shuffles
    when it prepares, and so a seed picks the same examples from either source.

    Args:
      name: one of `READERS`.
      directory: root folder; empty for TFDS's own ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      source: one of `SOURCES`.
      partial: whether one of the two splits is enough.
    """
    return read(find(name, directory, source, partial))


def find(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> Found:
    """Look for a data set of `LAYOUTS` without reading it; arguments as in `images`.

    Raises:
      DataMissing: it is not there; the message says where, and how to get it.
    """
    layout = LAYOUTS[one_of("data set", name, LAYOUTS)]
    one_of("data.source", source, SOURCES)
    root = root_folder(directory)
    folder = named(root, name)
    prepared_as = layout.prepared or name
    look = {
        "tfds": lambda: shards(named(root, prepared_as), prepared_as, layout.splits),
        "files": lambda: layout.official(folder),
    }
    candidates = [Found(name, k, folder, look[k]()) for k in SOURCES[source]]
    found = max(candidates, key=lambda candidate: len(candidate.files))
    if not found.files or (len(found.files) < len(layout.splits) and not partial):
        raise DataMissing(absence(found))
    return found


def read(
    found: Found, counts: dict[str, int] | None = None
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Decode what was found: splits as in `images`, and where they came from.

    Args:
      found: of a data set in `READERS`.
      counts: examples that a split must have; None for `COUNTS`.

    Raises:
      InputError: a file is damaged, or a split holds fewer examples.
    """
    counts = COUNTS if counts is None else counts
    digests = file_digests(found)
    arrays = cache.arrays(found.name, digests, lambda: _decode(found))
    parts = ("x", *READERS[found.name].labels)
    splits = {s: tuple(arrays[f"{s}_{part}"] for part in parts) for s in found.files}
    for split, (x, *_) in splits.items():
        if len(x) < counts.get(split, 0):
            raise InputError(
                f"{found.name} has {len(x)} {split} examples in {found.folder}, "
                f"expected {counts[split]}; get the complete official data"
            )
    return splits, origin(found, digests)


def file_digests(found: Found) -> dict[str, str]:
    """Sha256 of every file that was found, under its name."""
    paths = [path for files in found.files.values() for path in files]
    try:
        return {path.name: cache.sha256(path) for path in paths}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable"
        ) from error


def origin(found: Found, digests: dict[str, str]) -> dict[str, Any]:
    """Where a data set came from, for `Dataset.provenance`."""
    folder = next(iter(found.files.values()))[0].parent
    return {"kind": found.kind, "folder": str(folder), "files": digests}


def absence(found: Found) -> str:
    """Say which splits are missing, where, and the ways to get them."""
    layout = LAYOUTS[found.name]
    missing = [split for split in layout.splits if split not in found.files]
    text = (
        f"{found.name} has no {' and no '.join(missing)} split in {found.folder} "
        "(--config.data.source and --config.data.dir say where to look). "
        f"Put the official files there: {layout.wanted(found.folder, missing)}"
    )
    if not layout.prepared:
        return f"{text} (TFDS does not have it)"
    return f"{text}; or prepare it with TFDS: " + build_command(
        found.folder.parent, (layout.prepared,)
    )


def build_command(root: Path, names: Sequence[str], options: str = "") -> str:
    """What prepares data sets with TFDS, for people; with ``options`` of ``tfds``."""
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
    """The folder of that name in the root, or the root itself if it is it."""
    return root if root.name == name and not (root / name).is_dir() else root / name


def _official(folder: Path) -> Files:
    """The MNIST family's files per split for which images and labels are there."""
    files = {}
    for split, stem in STEMS.items():
        for ending in (".gz", ""):
            pair = tuple(folder / f"{stem}-{part}{ending}" for part in PARTS)
            if all(path.is_file() for path in pair):
                files.setdefault(split, pair)
    return files


def _wanted(folder: Path, splits: list[str]) -> str:
    del folder
    return ", ".join(f"{STEMS[s]}-{part}.gz" for s in splits for part in PARTS)


def shards(folder: Path, name: str, splits: tuple[str, ...]) -> Files:
    """TFDS's array-record files per split, of the newest version that has any.

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
            own = sorted(version.glob(f"{name}-{split}.array_record*"))
            if own:
                files[split] = tuple(own)
        if files:
            return files
    return {}


def _decode(found: Found) -> cache.Arrays:
    """Read all splits from the source, in canonical order."""
    reader = READERS[found.name]
    arrays = {}
    for split, files in found.files.items():
        if found.kind == "tfds":
            x, y, *rest = _from_tfds(split, files, reader)
        else:
            x, y, *rest = reader.official(files)
        pixels = x.reshape(len(x), math.prod(reader.shape))
        keys = np.column_stack([pixels, y.astype(np.uint8)])
        order = np.argsort(keys.view(f"V{keys.shape[1]}")[:, 0], kind="stable")
        for part, array in zip(("x", *reader.labels), (x, y, *rest), strict=True):
            arrays[f"{split}_{part}"] = array[order]
    return arrays


def unreadable(version: Path, error: Exception) -> InputError:
    """What to say of data that TFDS prepared and cannot read."""
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


def _from_tfds(split: str, shards: tuple[Path, ...], reader: Reader) -> Split:
    """Read all examples of a split that TFDS prepared."""
    version = shards[0].parent
    try:
        data = prepared(shards, split, encoded=("image",))
        examples = data.__getitems__(range(len(data)))
        encoded = [example["image"] for example in examples]
        labels = tuple(
            np.array([example[feature] for example in examples], np.int32)
            for feature, _ in reader.labels.values()
        )
    except Exception as error:  # damage shows as five unrelated types
        raise unreadable(version, error) from error
    x = np.empty((len(encoded), *reader.shape), np.uint8)
    for i, png in enumerate(encoded):
        where = f"{version}, {split} example {i},"
        x[i] = _pixels(where, png, reader.shape)
    for y, (feature, classes) in zip(labels, reader.labels.values(), strict=True):
        wrong = np.flatnonzero((y < 0) | (y >= classes))
        if wrong.size:
            raise InputError(
                f"{version}, {split} example {wrong[0]}, has the {feature} "
                f"{y[wrong[0]]}, expected 0..{classes - 1}; prepare the official data "
                "set"
            )
    return x, *labels


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


_MNISTS = Layout(tuple(STEMS), _official, _wanted, "")
_IDX = Reader(lambda files: idx.pair(*files), (28, 28, 1), {"y": ("label", 10)})
_CELEBA = Layout(
    celeba_files.SPLITS, celeba_files.official, celeba_files.wanted, "celeb_a"
)
_CIFAR100 = Layout(cifar.SPLITS, cifar.official, cifar.wanted, "cifar100")
_CIFAR100_LABELS = {
    "y": ("label", cifar.FINE),
    "coarse": ("coarse_label", cifar.COARSE),
}

LAYOUTS = {
    "mnist": _MNISTS._replace(prepared="mnist"),
    "fashion_mnist": _MNISTS._replace(prepared="fashion_mnist"),
    "notmnist": _MNISTS,
    "cifar100": _CIFAR100,
    "celeba": _CELEBA,
}
"""Data sets that `find` looks for."""
READERS = {
    **dict.fromkeys(NAMES, _IDX),
    "cifar100": Reader(cifar.read, cifar.SHAPE, _CIFAR100_LABELS),
}
"""Data sets that `read` decodes into the cache as a whole."""
