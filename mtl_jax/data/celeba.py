"""CelebA: binary attributes of one image of a face (Liu et al. 2015, arXiv:1411.7766).

Assumption: the whole aligned image of 178x218 pixels becomes a square of 64x64 by
bilinear interpolation over the area, as in the data of Sener & Koltun (2018), whose
protocol Kurin et al. (2022) take over; nothing is cropped.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mtl_jax.data import celeba_files, image, prepare
from mtl_jax.data import source as sources
from mtl_jax.data.celeba_files import ATTRIBUTES, SPLITS
from mtl_jax.data.dataset import Dataset
from mtl_jax.options import some_of
from mtl_jax.storage import reason
from mtl_jax.types import InputError

COUNTS = {"train": 162_770, "validation": 19_867, "test": 19_962}
"""Images of the official partition; another number is an error."""
FULL = (178, 218)
"""Width and height of the aligned images."""


class EncodedImage(NamedTuple):
    """An image that is not yet decoded."""

    name: str
    """Name in messages."""
    content: bytes
    """The JPEG."""
    attributes: np.ndarray
    """0 or 1, int8 ``[40]``."""


@dataclasses.dataclass(frozen=True)
class OfficialImages:
    """The images of the official files, one split after the other."""

    folder: Path
    lists: celeba_files.Listed

    @property
    def digests(self) -> dict[str, str]:
        """Return digests that change if the images do."""
        return {"names and sizes": self.lists.digest}

    def image(self, number: int) -> EncodedImage:
        """Read an image by its number."""
        path = self.folder / self.lists.names[number]
        try:
            content = image.content(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({reason.of(error)}); make it readable"
            ) from error
        return EncodedImage(str(path), content, self.lists.attributes[number])


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """The images that TFDS prepared, one split after the other."""

    version: Path
    """Folder of the shards."""
    splits: tuple[Any, ...]
    """TFDS's data source of every split."""
    digests: dict[str, str]
    """Digests that change if the images do."""

    def image(self, number: int) -> EncodedImage:
        """Read an image by its number."""
        part, place = 0, number
        while place >= len(self.splits[part]):
            place -= len(self.splits[part])
            part += 1
        try:
            (record,) = self.splits[part].__getitems__([place])
            values = [record["attributes"][name] for name in ATTRIBUTES]
            content = record["image"]
        except Exception as error:
            raise sources.unreadable(self.version, error) from error
        name = f"{self.version}, {SPLITS[part]} example {place},"
        return EncodedImage(name, content, np.array(values, np.int8))


def load(
    directory: str = "",
    source: str = "auto",
    seed: int = 0,
    attributes: tuple[str, ...] = (),
    size: int = 64,
) -> Dataset:
    """Load a task per attribute, all of one input, scored by F1 and accuracy.

    ``x`` is uint8 ``[202599, size, size, 3]``, ``y`` int8 ``[202599, T]``, 0 or
    1. Splits are those of the official partition. Images are mapped from the cache, not
    read; they are decoded into it once.

    Args:
      directory: holds the folder celeba (the official files, as they are or in the
        official folders Img, Anno and Eval) or celeb_a (prepared by TFDS).
      source: as in `source.images`.
      seed: of nothing, as the partition is fixed; it is only noted.
      attributes: names of those that become tasks, in this order; empty for all 40.
      size: pixels of a side.

    Raises:
      DataMissing: a part of the tree is not there.
      InputError: a file is damaged or not what its name says, or an option is out of
        range.
    """
    columns = columns_of(attributes)
    if not 1 <= size <= min(FULL):
        raise InputError(f"size is {size}; choose 1 to {min(FULL)} pixels")
    file_set = sources.find("celeba", directory, source)
    images = {"files": _official, "tfds": _prepared}[file_set.kind](file_set)
    arrays = prepare.arrays(
        "celeba",
        {**images.digests, "size": str(size)},
        {
            "x": ((size, size, 3), np.uint8),
            "y": ((len(ATTRIBUTES),), np.int8),
            "order": ((), np.uint64),
        },
        sum(COUNTS.values()),
        lambda i: _decode(images.image(i), size),
    )
    return Dataset(
        tasks=tuple(ATTRIBUTES[column] for column in columns),
        x=arrays["x"],
        y=arrays["y"][:, columns],
        rows=_rows(arrays["order"], len(columns)),
        objectives=("bernoulli_f1",) * len(columns),
        widths=(1,) * len(columns),
        provenance={
            "sources": {"celeba": sources.origin(file_set, images.digests)},
            "seed": seed,
            "remarks": [f"aligned images, resized to {size}x{size} pixels as a whole"],
        },
        one_input=True,
    )


def columns_of(attributes: tuple[str, ...]) -> list[int]:
    """Return the places of these attributes among all; of all if there are none.

    Raises:
      InputError: an unknown name.
    """
    names = some_of("attribute of celeba", attributes, ATTRIBUTES)
    return [ATTRIBUTES.index(name) for name in names or ATTRIBUTES]


def _rows(order: np.ndarray, tasks: int) -> dict[str, tuple[np.ndarray, ...]]:
    """Rows of every split, the same for all tasks, in canonical order.

    TFDS shuffles when it prepares, and does not keep names: the order by a hash of the
    example makes a seed pick the same examples from either source.
    """
    rows, start = {}, 0
    for split in SPLITS:
        stop = start + COUNTS[split]
        places = start + np.argsort(order[start:stop], kind="stable")
        rows[split] = (places.astype(np.int32),) * tasks
        start = stop
    return rows


def _official(file_set: sources.FileSet) -> OfficialImages:
    """Read the lists of the official files."""
    parts = file_set.files["train"]
    return OfficialImages(parts[0], celeba_files.read(parts, COUNTS))


def _prepared(file_set: sources.FileSet) -> PreparedImages:
    """Open the splits that TFDS prepared."""
    version = file_set.files["train"][0].parent
    splits = []
    for split in SPLITS:
        try:
            data = sources.prepared(file_set.files[split], split, encoded=("image",))
        except Exception as error:  # damage shows as unrelated types
            raise sources.unreadable(version, error) from error
        if len(data) != COUNTS[split]:
            raise InputError(
                f"{version} has {len(data)} {split} images, expected {COUNTS[split]}; "
                "prepare the official data set"
            )
        splits.append(data)
    return PreparedImages(version, tuple(splits), sources.file_digests(file_set))


def _decode(encoded: EncodedImage, size: int) -> dict[str, np.ndarray]:
    """Decode an image at a smaller size; it goes with its attributes and a hash."""
    name, content, attributes = encoded

    def check(image: Image.Image) -> None:
        width, height = image.size
        if (width, height) != FULL:
            raise InputError(
                f"{name} is an image of {width}x{height} pixels, expected "
                f"{FULL[0]}x{FULL[1]}; put the official aligned image there"
            )

    remedy = "unpack the official image again"
    full = image.decode(name, content, "JPEG", check, remedy).convert("RGB")
    x = np.asarray(full.resize((size, size), Image.Resampling.BILINEAR))
    digest = hashlib.blake2b(x.tobytes() + attributes.tobytes(), digest_size=8)
    order = np.frombuffer(digest.digest(), np.uint64).reshape(())
    return {"x": x, "y": attributes, "order": order}
