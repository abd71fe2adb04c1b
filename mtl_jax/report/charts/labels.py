"""Labels of axes, with units."""

import numpy as np

from mtl_jax.objectives.measure import Measure

TRAINING_LOSS = "training loss (nats), falling →"
UNITS = {
    "sharpness_l2": "sharpness l2 (nats)",
    "sharpness_linf": "sharpness l∞ (nats)",
    "adaptive_sharpness_l2": "adaptive sharpness l2 (nats)",
    "adaptive_sharpness_linf": "adaptive sharpness l∞ (nats)",
    "average_sharpness": "average sharpness (nats)",
    "fisher_trace": "Fisher trace (nats²)",
    "empirical_fisher_trace": "empirical Fisher trace (nats²)",
    "coherence": "coherence α (0 to 1)",
    "noise_scale": "noise scale (examples)",
}
"""Labels with units; of other factors the name, for they have none in common."""


def label(name: str, measure: Measure) -> str:
    """Name a recorded value with its unit.

    >>> label("accuracy", Measure(1, "%")), label("relative_error", Measure(-1, ""))
    ('accuracy (%)', 'relative error')
    """
    words = name.replace("_", " ")
    return f"{words} ({measure.unit})" if measure.unit else words


def difference(measure: Measure) -> str:
    """Name the unit of a difference of two values.

    >>> difference(Measure(1, "%")), difference(Measure(-1, "nats"))
    ('points', 'nats')
    """
    return "points" if measure.unit == "%" else measure.unit


def factor_label(name: str) -> str:
    """Name a factor with its unit.

    >>> factor_label("coherence"), factor_label("logit_norm")
    ('coherence α (0 to 1)', 'logit norm')
    """
    return UNITS.get(name, name.replace("_", " "))


def short(name: str) -> str:
    """Shorten a name to fit above a panel.

    >>> short("a"), short("x" * 40)
    ('a', 'xxxxxxxxxxxxxxxxxxxxxxx…')
    """
    return name if len(name) <= 24 else name[:23] + "…"


def spans(values: np.ndarray) -> bool:
    """Tell whether positive values are far enough apart for a log axis.

    >>> spans(np.array([1.0, 100.0])), spans(np.array([1.0, 2.0]))
    (True, False)
    >>> spans(np.array([-1.0, 100.0]))
    False
    """
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 20 * finite.min())
