"""Data of the settings: one loader per setting, and the schedule of examples."""

from collections.abc import Callable

from mtl_jax.data import (
    celeba,
    cifar100,
    cityscapes,
    digits,
    fashion_mtl,
    folder,
    glue,
    mnists,
)
from mtl_jax.data.dataset import Dataset

LOADERS: dict[str, Callable[..., Dataset]] = {
    "digits": digits.load,
    "fashion_mtl": fashion_mtl.load,
    "mnists": mnists.load,
    "cifar100": cifar100.load,
    "celeba": celeba.load,
    "cityscapes": cityscapes.load,
    "glue": glue.load,
    "glue_text": glue.load_text,
    "folder": folder.load,
}
"""Setting to loader; loaders take what they offer as keywords."""

__all__ = ["LOADERS", "Dataset"]
