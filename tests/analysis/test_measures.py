"""Directions and units as records declare them, and of records that do not."""

import numpy as np
import pandas as pd
import pytest

from mtl_jax import analysis
from mtl_jax.analysis.measures import UNDECLARED, measures
from mtl_jax.objectives.losses import OBJECTIVES
from mtl_jax.objectives.measure import LOSS, Measure
from mtl_jax.types import InputError
from tests.analysis.synthetic import curve, frame

DECLARED = {"distance": Measure(-1, "m"), "hits": Measure(1, "%"), "loss": LOSS}


def records(setting="s", **scores):
    """Make records that declare the loss and every score."""
    curves = [
        curve(variant, [2.0, 1.0], setting=setting, **scores)
        for variant in ("single", "multi")
    ]
    df = frame(*curves)
    declared = [DECLARED.get(name, Measure(0, "")) for name in df["name"]]
    return df.assign(
        direction=[measure.direction for measure in declared],
        unit=[measure.unit for measure in declared],
    )


def test_every_value_has_its_own():
    df = records(distance=2.0, hits=0.5)
    table = measures(df)
    assert {name: table["s", name] for name in DECLARED} == DECLARED


def test_settings_may_differ():
    """Let one name mean one thing here and another there."""
    first, other = records(distance=2.0), records("t", distance=2.0)
    other.loc[other["name"] == "distance", ["direction", "unit"]] = [1, "%"]
    table = measures(pd.concat([first, other], ignore_index=True))
    assert table["s", "distance"] == Measure(-1, "m")
    assert table["t", "distance"] == Measure(1, "%")


def test_a_name_with_two_measures_is_refused():
    first, other = records(distance=2.0), records(distance=2.0)
    other.loc[other["name"] == "distance", "unit"] = "mm"
    with pytest.raises(InputError, match="'distance' of 's' .*'m'.*'mm'.*another name"):
        measures(pd.concat([first, other], ignore_index=True))


@pytest.mark.parametrize("columns", ["none", "empty", "some"])
def test_records_of_before_know_the_scores_of_then(columns):
    df = records(accuracy=0.5, mse=2.0)
    if columns == "none":
        df = df.drop(columns=["direction", "unit"])
    if columns == "some":  # beside records that declare theirs
        df = pd.concat([records("t"), df.drop(columns=["direction", "unit"])])
    if columns == "empty":
        df = df.assign(direction=np.nan, unit=None)
    table = measures(df)
    assert table["s", "accuracy"] == Measure(1, "%")
    assert table["s", "mse"] == Measure(-1, "")
    assert table["s", "loss"] == LOSS


def test_what_nobody_declared_is_not_guessed():
    df = records(perplexity=2.0)
    message = "'s' .* more of 'perplexity' is better.*columns direction .* and unit"
    with pytest.raises(InputError, match=message):
        analysis.delta_m(df)
    assert len(analysis.gap(df, name="loss")) > 0  # of which it is known


def test_measures_of_before_are_those_of_today():
    for objective in OBJECTIVES.values():
        for name, measure in objective.measures.items():
            assert UNDECLARED[name] == measure
