"""Numbers as the paper prints them, in Table 1 of its preprint (2024)."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mtl_jax.analysis.curves import Frame


class Printed(NamedTuple):
    """Row of Table 1: deltas of a task, all tasks together against the task alone."""

    setting: str
    target: str
    transfer: float
    """In the unit that the paper has: percent points of CIFAR-100 and CelebA, otherwise
    the plain number."""
    sharpness: float
    fisher: float
    covariance: float


PRINTED = (
    Printed("cifar100", "fruit_and_vegetables", -8.81, 0.17, 8.1, 790),
    Printed("cifar100", "large_carnivores", -3.39, 0.04, -213, -0.3),
    Printed("cifar100", "large_natural_outdoor_scenes", -5.11, 0.13, -46, 697),
    Printed("cifar100", "medium_mammals", -2.89, 0.05, 31, 10.9),
    Printed("cifar100", "fish", 3.49, 0.05, 19, 10.8),
    Printed("cifar100", "large_omnivores_and_herbivores", 3.92, 0.05, 50, 11.1),
    Printed("cifar100", "non-insect_invertebrates", 3.53, 0.07, 20, 1.4),
    Printed("celeba", "Blurry", -2.73, 0.31, 2.2, 90),
    Printed("celeba", "Eyeglasses", -1.20, 0.32, 0.3, 7.9),
    Printed("celeba", "Double_Chin", 5.30, 0.33, 0.5, 34),
    Printed("celeba", "Gray_Hair", 4.75, 0.28, 0.7, 32),
    Printed("cityscapes", "segmentation", 0, 6.9, -5.3, -0.4),
    Printed("cityscapes", "depth", -0.05, 0.4, -6.1, 2.7),
    Printed("glue", "stsb", -0.01, 190, -74, -1.5),
    Printed("glue", "mrpc", 0.02, -0.07, 8.6, 0),
    Printed("glue", "rte", 0.07, 0.12, -0.1, 0),
    Printed("glue", "sst2", 0.01, 0.16, 14, 212),
)
"""Rows of Table 1, in its order."""
SIGNS = {"fashion_1/fashion_2": 1, "fashion_1/noisy_fashion": -1}
"""Signs of transfer by group, of which the paper prints curves (Figure 1) and no
numbers."""
SCORES = {"celeba": "f1"}
"""Scores of the paper by setting, where they are not the first of the records."""


def printed(settings: Sequence[str] = ()) -> Frame:
    """Tabulate what the paper prints, of some settings or of all.

    >>> printed(["celeba"])["target"].tolist()
    ['Blurry', 'Eyeglasses', 'Double_Chin', 'Gray_Hair']
    """
    table = pd.DataFrame(PRINTED, columns=Printed._fields)
    if settings:
        table = table[table["setting"].isin(settings)]
    return table.reset_index(drop=True)
