"""Data of the settings: one loader per setting, and the schedule of examples."""

from collections.abc import Callable

from mtl_jax.data import cityscapes, digits, fashion_mtl, mnists
from mtl_jax.data.dataset import Dataset

LOADERS: dict[str, Callable[..., Dataset]] = {
    "cityscapes": cityscapes.load,
    "digits": digits.load,
    "fashion_mtl": fashion_mtl.load,
    "mnists": mnists.load,
}
"""Setting to loader; loaders take what they offer as keywords."""

__all__ = ["LOADERS", "Dataset"]
