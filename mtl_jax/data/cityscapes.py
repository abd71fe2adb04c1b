"""Cityscapes: semantic segmentation and depth of one street scene.

Images of 1024x2048 pixels are taken down to 128x256 once, into the cache: pixels of the
image by their mean over an area, labels and disparities by the nearest one.

Depth is *inverse* depth, as in MTAN (Liu et al. 2019), whose arrays Kurin et al. (2022)
train on: the disparity file's number ``p``, over 65,535. Assumption: MTAN does not say
how its arrays were made; they end at .4922 (lorenmt/mtan#25), and so does the largest
official ``p``, 32,257, over 65,535. The disparity is ``(p - 1) / 256`` pixels of the
full width, so that an absolute error of .0130 is 3.3 of these pixels. ``p = 0`` was not
measured and stays 0, which `losses.DEPTH` leaves out.

Sener & Koltun (2018), whose preparation Mueller et al. (2025) name, standardise depths:
``(p - m) / 2,729.07``, with an image ``m`` of means. Assumption: it is not published,
so that of the official train split is taken, over what was measured. Their images have
256x512 pixels. What else they do is not offered: targets at an eighth of that size,
rotations by up to 10 degrees, mean colours taken out.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mtl_jax.data import image, prepare
from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset
from mtl_jax.options import one_of
from mtl_jax.storage import reason
from mtl_jax.types import DataMissing, InputError

TASKS = ("segmentation", "depth")
COUNTS = {"train": 2_975, "val": 500}
"""Images of the official splits with public labels; another number is an error."""
TRAIN = 2_380
"""Images of the official train split to train on; the others are for validation."""
DEPTHS = ("inverse", "standardised")
DEVIATION = np.float32(2_729.0680031169923 / 65_535)
"""Deviation of inverse depths, as Sener & Koltun have it."""
FULL = (1024, 2048)
"""Height and width of all official images."""
KINDS = {
    "leftImg8bit": "_leftImg8bit.png",
    "gtFine": "_gtFine_labelIds.png",
    "disparity": "_disparity.png",
}
"""Folders of the official tree, and how names of their files end."""
SOURCES = ("auto", "files")

IGNORED = -1
"""The label of pixels that count for nothing."""
CATEGORIES = ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
LABELS = (
    ("unlabeled", "void", IGNORED),
    ("ego vehicle", "void", IGNORED),
    ("rectification border", "void", IGNORED),
    ("out of roi", "void", IGNORED),
    ("static", "void", IGNORED),
    ("dynamic", "void", IGNORED),
    ("ground", "void", IGNORED),
    ("road", "flat", 0),
    ("sidewalk", "flat", 1),
    ("parking", "flat", IGNORED),
    ("rail track", "flat", IGNORED),
    ("building", "construction", 2),
    ("wall", "construction", 3),
    ("fence", "construction", 4),
    ("guard rail", "construction", IGNORED),
    ("bridge", "construction", IGNORED),
    ("tunnel", "construction", IGNORED),
    ("pole", "object", 5),
    ("polegroup", "object", IGNORED),
    ("traffic light", "object", 6),
    ("traffic sign", "object", 7),
    ("vegetation", "nature", 8),
    ("terrain", "nature", 9),
    ("sky", "sky", 10),
    ("person", "human", 11),
    ("rider", "human", 12),
    ("car", "vehicle", 13),
    ("truck", "vehicle", 14),
    ("bus", "vehicle", 15),
    ("caravan", "vehicle", IGNORED),
    ("trailer", "vehicle", IGNORED),
    ("train", "vehicle", 16),
    ("motorcycle", "vehicle", 17),
    ("bicycle", "vehicle", 18),
)
"""Name, category and number among the 19 classes of every id in a file of labels, as in
cityscapesscripts/helpers/labels.py (github.com/mcordts/cityscapesScripts)."""
CLASSES = {
    7: [CATEGORIES.index(c) if c in CATEGORIES else IGNORED for _, c, _ in LABELS],
    19: [number for _, _, number in LABELS],
}
"""Number of classes to the class of every id."""


class Scene(NamedTuple):
    """The files of one image."""

    image: Path
    labels: Path
    disparity: Path


def load(
    directory: str = "",
    source: str = "auto",
    seed: int = 0,
    classes: int = 7,
    size: tuple[int, int] = (128, 256),
    depth: str = "inverse",
) -> Dataset:
    """Load two tasks of one input: ``x`` is uint8 ``[N, H, W, 3]``.

    ``y`` is float32 ``[N, 2, H, W]``: labels as numbers, `IGNORED` for none, and
    depths, 0 for none. The official val split is for testing, as the labels of
    the test split are not public. Both arrays are mapped from the cache, not read.

    Args:
      directory: holds the folder cityscapes with the official tree.
      source: auto or files; TFDS has no Cityscapes with both tasks.
      seed: picks the images for validation out of the official train split.
      classes: 7 categories or 19 classes.
      size: height and width.
      depth: ``inverse``, or ``standardised`` after Sener & Koltun (2018), whose
        relative error means little, as it is relative to numbers around 0.

    Raises:
      DataMissing: the tree is not there, or a part of it.
      InputError: a file is damaged or not what its name says, or a bad option.
    """
    _check(source, classes, size, depth)
    folder = _folder(directory)
    scenes_of = {split: _scenes(folder, split) for split in COUNTS}
    scenes = [scene for split_scenes in scenes_of.values() for scene in split_scenes]
    digest = _fingerprint(folder, scenes)
    height, width = size
    of_class = np.array(CLASSES[classes], np.float32)
    key = {"files": digest, "classes": str(classes), "size": f"{height}x{width}"}
    arrays = prepare.arrays(
        "cityscapes",
        key,
        {
            "x": ((height, width, 3), np.uint8),
            "y": ((len(TASKS), height, width), np.float32),
        },
        len(scenes),
        lambda i: _decode(scenes[i], of_class, (height, width)),
    )
    y, unit = arrays["y"], "the number in the disparity file over 65535"
    if depth == "standardised":
        y = _standardised(y, len(scenes_of["train"]), key)
        unit += ", less its pixel's mean, over its deviation"
    deck = np.random.default_rng(seed).permutation(len(scenes_of["train"]))
    test = np.arange(len(deck), len(scenes))
    parts = {"train": deck[:TRAIN], "validation": deck[TRAIN:], "test": test}
    origin = {"kind": "files", "folder": str(folder), "names and sizes": digest}
    return Dataset(
        tasks=TASKS,
        x=arrays["x"],
        y=y,
        rows={split: (rows.astype(np.int32),) * 2 for split, rows in parts.items()},
        objectives=TASKS,  # they are called alike
        widths=(classes, 1),
        provenance={
            "sources": {"cityscapes": origin},
            "seed": seed,
            "remarks": [
                f"{classes} classes at {height}x{width} pixels; depth is {unit}; the "
                "test split is the official val"
            ],
        },
        one_input=True,
    )


def _standardised(y: np.ndarray, n_train: int, key: dict[str, str]) -> np.ndarray:
    """Targets ``[N, 2, H, W]`` with standardised depths, mapped from the cache too."""

    @functools.cache  # not needed where the cache has it all
    def mean() -> np.ndarray:
        total, count = np.zeros((2, *y.shape[2:]))
        for depths in y[:n_train, 1]:
            total += depths
            count += depths != 0
        return (total / np.maximum(count, 1)).astype(np.float32)

    def decode(i: int) -> dict[str, np.ndarray]:
        labels, depths = y[i]
        depths = np.where(depths == 0, 0, (depths - mean()) / DEVIATION)
        return {"y": np.stack([labels, depths]).astype(np.float32)}

    form = {"y": (y.shape[1:], np.float32)}
    key = {**key, "depth": "standardised"}
    return prepare.arrays("cityscapes_standardised", key, form, len(y), decode)["y"]


def _check(source: str, classes: int, size: tuple[int, int], depth: str) -> None:
    """Raise an `InputError` for the first option that is out of its range."""
    if source == "tfds":
        raise InputError(
            "TFDS has no Cityscapes with both labels and disparities; get the official "
            "files and pass --config.data.source=files"
        )
    one_of("data.source", source, SOURCES)
    one_of("data.classes", classes, CLASSES)
    one_of("data.depth", depth, DEPTHS)
    fits = len(size) == 2 and all(
        isinstance(side, int) and 1 <= side <= most
        for side, most in zip(size, FULL, strict=True)
    )
    if not fits:
        raise InputError(f"size is {size}; choose (height, width) up to {FULL}")


def _folder(directory: str) -> Path:
    """The folder of the official tree."""
    folder = sources.named(sources.root_folder(directory), "cityscapes")
    missing = [
        f"{kind}/{split}"
        for kind in KINDS
        for split in COUNTS
        if not (_of_kind(folder, kind) / split).is_dir()
    ]
    if missing:
        archives = ", ".join(f"{kind}_trainvaltest.zip" for kind in KINDS)
        raise DataMissing(
            f"cityscapes has no {', no '.join(missing)} in {folder} (--config.data.dir "
            "says where to look). Register at https://www.cityscapes-dataset.com, "
            f"download {archives} and unpack them there"
        )
    return folder


def _of_kind(folder: Path, kind: str) -> Path:
    """A folder of the tree, or that of an archive that has one of its own."""
    unpacked = folder / f"{kind}_trainvaltest" / kind
    return unpacked if unpacked.is_dir() else folder / kind


def _scenes(folder: Path, split: str) -> list[Scene]:
    """All images of an official split with their other files, in order of names."""
    roots = [_of_kind(folder, kind) / split for kind in KINDS]
    ending = KINDS["leftImg8bit"]
    names = sorted(
        path.relative_to(roots[0]).as_posix().removesuffix(ending)
        for path in roots[0].glob(f"*/[!.]*{ending}")
    )
    if len(names) != COUNTS[split]:
        raise InputError(
            f"{roots[0]} has {len(names)} images, expected {COUNTS[split]}; unpack the "
            "official leftImg8bit_trainvaltest.zip again, and nothing else there"
        )
    return [
        Scene(*(r / f"{name}{e}" for r, e in zip(roots, KINDS.values(), strict=True)))
        for name in names
    ]


def _fingerprint(folder: Path, scenes: list[Scene]) -> str:
    """Sha256 of the names and sizes of all files; their 15 GB are not read."""
    listing = []
    for scene in scenes:
        for kind, path in zip(KINDS, scene, strict=True):
            try:
                size = path.stat().st_size
            except FileNotFoundError as error:
                raise InputError(
                    f"{scene.image} has no {path} beside it; unpack the official "
                    f"{kind}_trainvaltest.zip in {folder} again"
                ) from error
            except OSError as error:
                raise InputError(
                    f"{path} cannot be read ({error.strerror}); make it readable"
                ) from error
            listing.append([path.parent.name, path.name, size])
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _decode(
    scene: Scene, of_class: np.ndarray, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Decode an image, its labels and its depths, at a smaller size."""
    height, width = size
    full = _open(scene.image, "RGB")
    x = np.asarray(full.resize((width, height), Image.Resampling.BOX))
    ids = np.asarray(_open(scene.labels, "L"))
    if ids.max() >= len(LABELS):
        raise InputError(
            f"{scene.labels} has the label {ids.max()}, expected the ids 0.."
            f"{len(LABELS) - 1}; put the official gtFine_labelIds file there, not one "
            "of trainIds"
        )
    disparity = np.asarray(_open(scene.disparity, "I;16", "I"))
    nearest = _nearest(size)
    depth = disparity[nearest].astype(np.float32) / np.float32(65_535)
    return {"x": x, "y": np.stack([of_class[ids[nearest]], depth])}


def _nearest(size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Index of those pixels that are nearest to the middles of a small image's."""
    rows, columns = (
        (2 * np.arange(small) + 1) * large // (2 * small)
        for small, large in zip(size, FULL, strict=True)
    )
    return np.ix_(rows, columns)


def _open(path: Path, *modes: str) -> Image.Image:
    """Read a PNG of one of these modes (Pillow's name of the type of pixels)."""

    def check(image: Image.Image) -> None:
        width, height = image.size
        if (height, width) != FULL or image.mode not in modes:
            raise InputError(
                f"{path} is an image of {height}x{width} pixels of type {image.mode}, "
                f"expected {FULL[0]}x{FULL[1]} of {modes[0]}; put the official file "
                "there"
            )

    remedy = "unpack the official file again"
    try:
        encoded = image.content(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({reason.of(error)}); {remedy}"
        ) from error
    return image.decode(str(path), encoded, "PNG", check, remedy)
