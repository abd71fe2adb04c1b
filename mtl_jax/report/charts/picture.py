"""Pictures: figures of the page, panels with what must be known to read them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mtl_jax.report.charts.look import Look
from mtl_jax.report.charts.panel import Panel


class Picture(NamedTuple):
    """A figure of the page."""

    id: str
    title: str
    caption: str
    panels: Sequence[Panel]
    """From left to right, then down."""
    looks: Mapping[str, Look]
    """Legend: of what the panels show, by its name there; may be empty."""
    columns: int = 3
    """Panels side by side, where there is room."""
    folded: bool = False
    """Shown on demand."""
