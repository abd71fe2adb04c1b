"""Reader of CelebA's official tree: the two lists, and names of the aligned images.

A row of the list of attributes is a file name and 1 or -1 per attribute; before the
rows come their number and the attributes' names. A row of the partition list is a
file name and the number of a split.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtl_jax.storage import reason, text_file
from mtl_jax.types import InputError

SPLITS = ("train", "validation", "test")
"""In the order of their numbers in the partition list."""
ATTRIBUTES: tuple[str, ...] = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
"""All 40, in the official order."""
PLACES = {
    "img_align_celeba": "Img",
    "list_attr_celeba.txt": "Anno",
    "list_eval_partition.txt": "Eval",
}
"""Parts of the tree, and the folder of the official distribution that has each."""

LARGEST = 2**26
"""Bytes of a list; that of attributes has 27 MB."""


class Listed(NamedTuple):
    """The images, those of a split together, in order of the lists."""

    names: list[str]
    """Names of the files of ``N`` images."""
    attributes: np.ndarray
    """0 or 1, int8 ``[N, 40]``."""
    digest: str
    """Sha256 of the names and sizes of the images, and of the lists."""


def official(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Find the folder of images, attributes and partition: for all splits, or none."""
    parts = tuple(_place(folder, name) for name in PLACES)
    there = all(part.exists() for part in parts)
    return dict.fromkeys(SPLITS, parts) if there else {}


def missing(folder: Path, splits: list[str]) -> str:
    """List what the folder lacks."""
    del splits
    lacking = [name for name in PLACES if not _place(folder, name).exists()]
    return ", ".join(lacking or PLACES)


def _place(folder: Path, name: str) -> Path:
    path = folder / PLACES[name] / name
    return path if path.exists() else folder / name


def read(parts: tuple[Path, ...], counts: dict[str, int]) -> Listed:
    """Read the lists, and look for all images without opening them.

    Args:
      parts: as `official` gives them.
      counts: images that the splits must have.

    Raises:
      InputError: a list is damaged, the lists do not belong together, or images are
        missing.
    """
    images, attributes, partition = parts
    names, values = _attributes(attributes)
    numbers = _partition(partition, names, attributes)
    for number, split in enumerate(SPLITS):
        n = np.count_nonzero(numbers == number)
        if n != counts[split]:
            raise InputError(
                f"{partition} has {n} {split} images, expected {counts[split]}; put "
                "the official file there"
            )
    sizes = _sizes(images)
    missing = [name for name in names if name not in sizes]
    if missing:
        raise InputError(
            f"{images} lacks {len(missing)} of the {len(names)} images in "
            f"{attributes.name}, {missing[0]} for one; unpack the official "
            "img_align_celeba.zip again"
        )
    order = np.argsort(numbers, kind="stable")
    listed = [names[i] for i in order]
    listing = [listed, [sizes[name] for name in listed], numbers[order].tolist()]
    digest = hashlib.sha256(json.dumps(listing).encode() + values[order].tobytes())
    return Listed(listed, values[order], digest.hexdigest())


def _rows(path: Path) -> list[list[bytes]]:
    """The words of every line that is not empty."""
    try:
        content = text_file.read(path, LARGEST)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); make it readable"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is no list ({reason.text(error)}); put the official file there"
        ) from error
    lines = content.encode().splitlines()
    return [words for line in lines if (words := line.split())]


def _attributes(path: Path) -> tuple[list[str], np.ndarray]:
    """File names, and their attributes in the order of `ATTRIBUTES`, 0 or 1."""
    lines = _rows(path)
    (head, header), rows = [*lines[:2], [], []][:2], lines[2:]
    if head != [b"%d" % len(rows)]:
        raise InputError(
            f"{path} has {len(rows)} rows, but promises {_text(head)!r}; put the "
            "official file there"
        )
    columns = {_text([word]): place for place, word in enumerate(header)}
    for attribute in ATTRIBUTES:
        if attribute not in columns:
            raise InputError(
                f"{path} has no column {attribute} among its {len(header)}; put the "
                "official file there"
            )
    for row in rows:
        if len(row) != 1 + len(header):
            raise InputError(
                f"{path} has {len(row) - 1} values for {_text(row[:1])}, expected "
                f"{len(header)}; put the official file there"
            )
    values = np.array([row[1:] for row in rows], "S3")
    wrong = np.argwhere((values != b"1") & (values != b"-1"))
    if wrong.size:
        row, column = wrong[0]
        raise InputError(
            f"{path} has the value {_text(rows[row][1 + column : 2 + column])} of "
            f"{_text(header[column : column + 1])} for {_text(rows[row][:1])}, "
            "expected 1 or -1; put the official file there"
        )
    order = [columns[attribute] for attribute in ATTRIBUTES]
    names = [_text(row[:1]) for row in rows]
    return names, (values == b"1")[:, order].astype(np.int8)


def _partition(path: Path, names: list[str], attributes: Path) -> np.ndarray:
    """The number of the split of every image ``[N]``."""
    rows = _rows(path)
    if len(rows) != len(names):
        raise InputError(
            f"{path} has {len(rows)} rows, but {attributes} {len(names)}; put two "
            "official files there"
        )
    known = {b"%d" % number for number in range(len(SPLITS))}
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        if len(row) != 2 or row[1] not in known:
            raise InputError(
                f"{path} has {_text(row)!r} in row {place + 1}, expected a file name "
                f"and 0..{len(SPLITS) - 1}; put the official file there"
            )
        if _text(row[:1]) != name:
            raise InputError(
                f"{path} has {_text(row[:1])} in row {place + 1}, but {attributes} "
                f"{name}; put two official files there"
            )
    return np.array([int(row[1]) for row in rows], np.int8)


def _text(words: list[bytes]) -> str:
    return b" ".join(words).decode(errors="replace")[:80]


def _sizes(folder: Path) -> dict[str, int]:
    """Size of every file in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); make it readable"
        ) from error
