"""Style of figures: one colour, line and marker per variant, everywhere.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; lines
and markers differ, too, for paper without colours.
"""

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#e4e4e4"
PIXELS_PER_INCH = 100
"""At which a page shows a figure: 9 points are 12.5 pixels."""

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#8a8a8a",
    "ytick.color": "#8a8a8a",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "text.parse_math": False,  # names of tasks are anybody's
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "mtl_jax",
    "path.simplify": True,
}


class Look(NamedTuple):
    """Colour, line and marker of a variant."""

    label: str
    color: str
    dash: Any
    """Line style of matplotlib."""
    marker: str


BASELINE = Look("", "#000000", "-", "o")
SUM = Look("", "#D55E00", (0, (5, 1.4)), "s")
OTHERS = (
    Look("", "#0072B2", (0, (3, 1.2, 1, 1.2)), "^"),
    Look("", "#009E73", (0, (1.4, 1.2)), "D"),
    Look("", "#CC79A7", (0, (6, 1.2, 1, 1.2, 1, 1.2)), "v"),
    Look("", "#E69F00", (0, (8, 2)), "P"),
    Look("", "#56B4E9", (0, (4, 1.2, 2, 1.2)), "X"),
)


def looks(variants: Iterable[str], baseline: str = "single") -> dict[str, Look]:
    """Choose looks: the baseline black, ``multi`` vermillion, others in turn.

    >>> looks(["multi-pcgrad", "multi", "single"])["multi"].color
    '#D55E00'
    """
    by_variant, others = {}, 0
    for name in dict.fromkeys(variants):
        if name == baseline:
            by_variant[name] = BASELINE._replace(label=f"{name} (ST)")
        elif name == "multi":
            by_variant[name] = SUM._replace(label=f"{name} (MT, sum of losses)")
        else:
            by_variant[name] = OTHERS[others % len(OTHERS)]._replace(label=name)
            others += 1
    return by_variant


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Set the house's style in matplotlib, as a context or decorator."""
    with mpl.rc_context(RC):
        yield


def svg(figure: Figure) -> bytes:
    """Render a figure as SVG, the same bytes for the same figure.

    Places are given to a hundredth of a point; letters stay letters.
    """
    content = _saved(figure, format="svg", metadata={"Date": None}, dpi=150)
    return re.sub(rb'="[^"]*"', _rounded, content)


def _rounded(attribute: re.Match) -> bytes:
    return re.sub(rb"(\d\.\d\d)\d+", rb"\1", attribute[0])


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as PNG of 128 colours, a third of the size of all colours."""
    whole = _saved(figure, format="png", metadata={"Software": None}, dpi=dpi)
    image = Image.open(io.BytesIO(whole)).convert("RGB")
    few = image.quantize(
        128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    palette = np.array(few.getpalette()).reshape(-1, 3)
    palette[(palette > 251).all(axis=1)] = 255  # paper stays white
    few.putpalette(palette.ravel().tolist())
    file = io.BytesIO()
    few.save(file, "png")
    return file.getvalue()


def _saved(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    with styled():
        figure.savefig(file, **options)
    return file.getvalue()
