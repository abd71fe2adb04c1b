import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mtl_jax.report import terminal_table
from mtl_jax.storage.records import Row


def rows(seed, value, step=10, rate=1e-3, variant="multi", task="a", name="loss"):
    run = Row(
        "digits", variant, seed, seed, rate, 32, "sum", step, 1.0, "", task, name, 0
    )
    offsets = {"probe": 0, "validation": 1, "test": 2}
    return [run._replace(split=s, value=value + o) for s, o in offsets.items()]


def shown(*groups):
    text = io.StringIO()
    df = pd.DataFrame([row for group in groups for row in group], columns=Row._fields)
    Console(file=text, width=200).print(terminal_table.table(df))
    return text.getvalue()


def cells(text, *beginning):
    (line,) = (
        line.split()
        for line in text.splitlines()
        if line.split()[: len(beginning)] == list(beginning)
    )
    return line[len(beginning) :]


def test_mean_and_standard_deviation_over_seeds():
    values = [1.0, 2.0, 4.0]
    text = shown(*(rows(seed, value) for seed, value in enumerate(values)))
    spread = f"±{np.std(values, ddof=1):.3f}"
    means = [f"{np.mean(values) + offset:.3f}" for offset in (0, 1, 2)]
    expected = [cell for mean in means for cell in (mean, spread)]
    assert cells(text, "multi", "0.001", "a") == expected
    assert "step 10: mean ± s.d. over 3 seeds" in text


def test_one_seed_has_no_deviation():
    assert cells(shown(rows(0, 1.0)), "multi", "0.001", "a") == [
        "1.000",
        "2.000",
        "3.000",
    ]


def test_scores_are_in_percent():
    text = shown(rows(0, 1.0), rows(0, 0.25, name="accuracy"))
    expected = ["1.000", "2.000", "3.000", "25.0", "125.0", "225.0"]
    assert cells(text, "multi", "0.001", "a") == expected


def test_errors_are_as_they_are_and_what_a_task_has_not_is_left_out():
    text = shown(rows(0, 1.0), rows(0, 0.25, task="b", name="mse"))
    assert cells(text, "multi", "0.001", "a") == ["1.000", "2.000", "3.000"]
    assert cells(text, "multi", "0.001", "b") == ["0.250", "1.250", "2.250"]


def test_several_scores_have_a_line_each():
    text = shown(
        rows(0, 1.0),
        rows(0, 0.25, name="accuracy"),
        rows(0, 0.5, name="f1"),
        rows(0, 2.0, task="b"),
        rows(0, 3.0, task="b", name="mse"),
    )
    losses = ["1.000", "2.000", "3.000"]
    first = cells(text, "multi", "0.001", "a")
    assert first == [*losses, "accuracy", "25.0", "125.0", "225.0"]
    assert cells(text, "f1") == ["50.0", "150.0", "250.0"]
    other = cells(text, "multi", "0.001", "b")[3:]
    assert other == ["mse", "3.000", "4.000", "5.000"]


def test_only_the_last_step_counts():
    text = shown(rows(0, 9.0, step=5), rows(0, 1.0, step=10))
    assert cells(text, "multi", "0.001", "a")[0] == "1.000"


def test_a_row_per_variant_rate_and_task():
    text = shown(
        rows(0, 1.0, variant="single"),
        rows(0, 2.0),
        rows(0, 3.0, rate=1e-2),
        rows(0, 4.0, task="b"),
    )
    beginnings = {
        ("single", "0.001", "a"): "1.000",
        ("multi", "0.001", "a"): "2.000",
        ("multi", "0.01", "a"): "3.000",
        ("multi", "0.001", "b"): "4.000",
    }
    for beginning, first in beginnings.items():
        assert cells(text, *beginning)[0] == first
    # Variants stay in the order of the config.
    assert text.index("single") < text.index("multi")


@pytest.mark.parametrize("sound", [True, False])
def test_diverged_runs_are_marked(sound):
    mark = Row(
        "digits", "multi", 4, 1, 0.5, 32, "sum", 7, 1.0, "train", "", "diverged", 1
    )
    groups = [[mark], rows(1, 8.0, step=0, rate=0.5)]
    if sound:
        groups.append(rows(0, 1.0))
    text = shown(*groups)
    assert "run 4 (seed 1) diverged at step 7" in text
    if sound:  # what it had before says nothing of its end
        assert "8.000" not in text
