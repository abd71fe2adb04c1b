"""Images of the MNIST family, as prepared by TFDS or from the official files.

Nothing is downloaded: `find` looks for the data at once and says how to get it;
`read` decodes what was found, or takes it from the cache.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data import cache, idx
from mtl_jax.types import DataMissing, InputError

Split = tuple[np.ndarray, np.ndarray]
"""uint8 images ``[N, 28, 28, 1]`` and int32 labels ``[N]``."""

STEMS = {"train": "train", "test": "t10k"}
"""Beginning of the official file names of a split."""
PARTS = ("images-idx3-ubyte", "labels-idx1-ubyte")
"""The rest of these names, but for .gz."""
COUNTS = {"train": 60_000, "test": 10_000}
"""Examples of an official split; fewer is an error."""
SOURCES = {"auto": ("tfds", "files"), "tfds": ("tfds",), "files": ("files",)}
NAMES = ("mnist", "fashion_mnist", "notmnist")


class Found(NamedTuple):
    """Where a data set lies; nothing has been read yet."""

    name: str
    kind: str
    """``tfds`` or ``files``."""
    folder: Path
    """The folder ``<directory>/<name>``, or the directory itself if so named."""
    files: dict[str, tuple[Path, ...]]
    """Per split that is there: TFDS's shards, or official images and labels."""


def images(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Read the splits ``train`` and ``test``, and where they came from.

    Examples come in one canonical order (by pixels, then label): TFDS shuffles
    when it prepares, and so a seed picks the same examples from either source.

    Args:
      name: one of `NAMES`.
      directory: root folder; empty for TFDS's own ($TFDS_DATA_DIR or
        ~/tensorflow_datasets).
      source: one of `SOURCES`.
      partial: whether one of the two splits is enough.
    """
    return read(find(name, directory, source, partial))


def find(
    name: str, directory: str = "", source: str = "auto", partial: bool = False
) -> Found:
    """Look for a data set without reading it; arguments as in `images`.

    Raises:
      DataMissing: it is not there; the message says where, and how to get it.
    """
    for word, value, known in (("data set", name, NAMES), ("source", source, SOURCES)):
        if value not in known:
            raise InputError(f"unknown {word} {value!r}; choose of {', '.join(known)}")
    root = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = Path(os.path.abspath(os.path.expanduser(root)))
    folder = root if root.name == name and not (root / name).is_dir() else root / name
    look = {"tfds": _prepared, "files": _official}
    candidates = [Found(name, k, folder, look[k](folder)) for k in SOURCES[source]]
    found = max(candidates, key=lambda candidate: len(candidate.files))
    if not found.files or (len(found.files) < len(STEMS) and not partial):
        raise DataMissing(absence(found))
    return found


def read(found: Found) -> tuple[dict[str, Split], dict[str, Any]]:
    """Decode what was found: splits as in `images`, and where they came from.

    Raises:
      InputError: a file is damaged, or holds fewer examples than `COUNTS`.
    """
    try:
        paths = [path for files in found.files.values() for path in files]
        digests = {path.name: cache.sha256(path) for path in paths}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable"
        ) from error
    arrays = cache.arrays(found.name, digests, lambda: _decode(found))
    splits = {s: (arrays[f"{s}_x"], arrays[f"{s}_y"]) for s in found.files}
    for split, (x, _) in splits.items():
        if len(x) < COUNTS[split]:
            raise InputError(
                f"{found.name} has {len(x)} {split} examples in {found.folder}, "
                f"expected {COUNTS[split]}; get the complete official data"
            )
    folder = str(paths[0].parent)
    return splits, {"kind": found.kind, "folder": folder, "files": digests}


def absence(found: Found) -> str:
    """Say which splits are missing, where, and the ways to get them."""
    missing = [split for split in STEMS if split not in found.files]
    names = ", ".join(f"{STEMS[s]}-{part}.gz" for s in missing for part in PARTS)
    text = (
        f"{found.name} has no {' and no '.join(missing)} split in {found.folder} "
        "(--config.data.source and --config.data.dir say where to look). "
        f"Put the official files there: {names}"
    )
    if found.name == "notmnist":
        return f"{text} (TFDS does not have it)"
    prepared = next(found.folder.glob("*/dataset_info.json"), None)
    command = (
        f"pip install 'mtl_jax[tfds-prepare]' && tfds build {found.name} "
        f"--file_format=array_record --data_dir={found.folder.parent}"
    )
    if prepared:  # most likely as tfrecord, the default of TFDS
        command += f" --overwrite ({prepared.parent} is not complete in array_record)"
    return f"{text}; or prepare it with TFDS: {command}"


def _official(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Official files per split for which images and labels are there."""
    files = {}
    for split, stem in STEMS.items():
        for ending in (".gz", ""):
            pair = tuple(folder / f"{stem}-{part}{ending}" for part in PARTS)
            if all(path.is_file() for path in pair):
                files.setdefault(split, pair)
    return files


def _prepared(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Array-record shards per split, of the newest version that has any."""
    versions = {
        tuple(int(number) for number in info.parent.name.split(".")): info.parent
        for info in folder.glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    }
    for _, version in sorted(versions.items(), reverse=True):
        files = {}
        for split in STEMS:
            shards = sorted(version.glob(f"{folder.name}-{split}.array_record*"))
            if shards:
                files[split] = tuple(shards)
        if files:
            return files
    return {}


def _decode(found: Found) -> cache.Arrays:
    """Read all splits from the source, in canonical order."""
    decode = {"tfds": _from_tfds, "files": lambda _, files: idx.pair(*files)}
    arrays = {}
    for split, files in found.files.items():
        x, y = decode[found.kind](split, files)
        keys = np.column_stack([x.reshape(-1, 28 * 28), y.astype(np.uint8)])
        order = np.argsort(keys.view(f"V{keys.shape[1]}")[:, 0], kind="stable")
        arrays[f"{split}_x"], arrays[f"{split}_y"] = x[order], y[order]
    return arrays


def _from_tfds(split: str, shards: tuple[Path, ...]) -> Split:
    """Read a split that TFDS prepared as array_record, without TensorFlow."""
    version = shards[0].parent
    try:
        import tensorflow_datasets as tfds  # a third of a second, so only here

        builder: Any = tfds.builder_from_directory(version)
        data = builder.as_data_source(split)
        examples = data.__getitems__(range(len(data)))
        x = np.stack([example["image"] for example in examples])
        y = np.array([example["label"] for example in examples], np.int32)
    except Exception as error:  # damage shows as five unrelated types
        raise InputError(
            f"{version} cannot be read by TFDS ({type(error).__name__}: {error}); "
            "prepare it again, or pass --config.data.source=files"
        ) from error
    if x.shape[1:] != (28, 28, 1) or not 0 <= y.min() <= y.max() < idx.NUM_CLASSES:
        raise InputError(
            f"{version} holds images {x.shape[1:]} with labels {y.min()}..{y.max()}, "
            "expected (28, 28, 1) with 0..9; prepare the official data set"
        )
    return x, y
