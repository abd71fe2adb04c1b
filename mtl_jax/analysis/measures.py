"""Direction and unit of the values in the records, as the records declare them.

Records that are older than these columns do not: for the names that scores had then,
and only for those, `UNDECLARED` says it.
"""

from mtl_jax.analysis.curves import Frame
from mtl_jax.analysis.memo import memoised
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.types import InputError

_PERCENT = ("accuracy", "f1", "matthews", "mean_iou", "pearson", "pixel_accuracy")
_PERCENT += ("spearman",)
_ERRORS = ("absolute_error", "error", "mae", "mse", "relative_error", "rmse")

UNDECLARED: dict[str, Measure] = {
    "loss": LOSS,
    **dict.fromkeys(_PERCENT, Measure(1, "%")),
    **dict.fromkeys(_ERRORS, Measure(-1, "")),
}
"""Measures by name, of records without the columns ``direction`` and ``unit``."""


class Measures(dict[tuple[str, str], Measure]):
    """Measures by ``(setting, name)``."""

    def __missing__(self, key: tuple[str, str]) -> Measure:
        """Look up a value that the records do not declare.

        Raises:
          InputError: nothing is known of it.
        """
        setting, name = key
        if name not in UNDECLARED:
            raise InputError(
                f"the records of {setting!r} do not say whether more of {name!r} is "
                f"better, nor its unit, and without that only {', '.join(UNDECLARED)} "
                f"are known; train again, or add the columns direction (1: more is "
                f"better, -1: less) and unit ('%' of a fraction, '' of a plain number)."
            )
        return UNDECLARED[name]


@memoised
def measures(df: Frame) -> Measures:
    """Collect the direction and unit of every loss and score of the records.

    Raises:
      InputError: a name has two of them in one setting.
    """
    columns = ["setting", "name", "direction", "unit"]
    if not set(columns) <= set(df.columns):
        return Measures()
    declared = df[df["direction"].fillna(0) != 0][columns].drop_duplicates()
    table = Measures()
    for setting, name, direction, unit in declared.itertuples(index=False):
        measure = Measure(int(direction), unit)
        if table.setdefault((setting, name), measure) != measure:
            raise InputError(
                f"{name!r} of {setting!r} is declared as {table[setting, name]} and as "
                f"{measure}; give the score another name in one of the runs."
            )
    return table
