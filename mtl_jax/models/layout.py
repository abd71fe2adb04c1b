"""Layouts of pre-trained weights: places of a trunk's variables in a file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from mtl_jax.models.state_dict import StoredArray
from mtl_jax.types import PyTree


class Place(NamedTuple):
    """The place of a variable in a file."""

    name: str
    """In the file."""
    path: tuple[str, ...]
    """In our variables, the collection first."""
    axes: tuple[int, ...] | None = None
    """Axes of the file's array in the order of ours; None: the same."""

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in the file, from ours."""
        if self.axes is None:
            return ours
        return tuple(ours[self.axes.index(n)] for n in range(len(ours)))


class WeightLayout(NamedTuple):
    """The layout of files of one origin, for one trunk."""

    read: Callable[[Path], dict[str, StoredArray]]
    """All arrays by the names that they are stored by."""
    place_name: Callable[[str], str | None]
    """Name of a stored array in `places`; None for one that is left out."""
    places: Callable[[PyTree], Iterable[Place]]
    """Places of all variables that weights replace, from the variables or shapes."""
