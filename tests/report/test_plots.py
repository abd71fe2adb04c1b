"""Figures: what they show is what they were given, and nothing around them changes."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes

from mtl_jax import analysis
from mtl_jax.report import plots
from mtl_jax.report.plots import axis, bundle, sheet, style
from mtl_jax.storage import records
from tests import workdirs
from tests.workdirs import STEPS, trajectories

TASKS = ["a", "$b_1"]
SCORES = dict.fromkeys(TASKS, "accuracy")


@pytest.fixture(scope="module")
def df(tmp_path_factory):
    rows = trajectories(tasks=TASKS, seeds=(0, 1, 2), diverged=())
    return records.read(workdirs.write(tmp_path_factory.mktemp("plots") / "run", rows))


@pytest.fixture(scope="module")
def table(df):
    return plots.indexed(df)


@pytest.fixture(scope="module")
def compared(df):
    return plots.GapTables(
        analysis.gap(df), analysis.gap(df, name="accuracy"), analysis.gap_curve(df)
    )


LOOKS = plots.looks(["single", "multi"])


def gap(table, compared, narrow=False):
    return plots.gap(table, TASKS, LOOKS, SCORES, {"multi": compared}, narrow=narrow)


def line_of(ax: Axes, variant, width=1.8):
    """Return abscissas and ordinates of the thick line of a variant."""
    look = LOOKS[variant]
    (thick,) = (
        line
        for line in ax.lines
        if line.get_color() == look.color and line.get_linewidth() == width
    )
    return np.asarray(thick.get_xdata()), np.asarray(thick.get_ydata())


def test_looks_are_told_apart_and_stay_the_same():
    names = ["single", "multi", *(f"multi-{x}" for x in "abcde")]
    by_variant = plots.looks(names)
    assert len({look.color for look in by_variant.values()}) == len(names)
    assert len({str(look.dash) for look in by_variant.values()}) == len(names)
    assert len({look.marker for look in by_variant.values()}) == len(names)
    assert plots.looks(names[:3])["multi"] == by_variant["multi"]
    assert len(plots.looks([*names, "multi-f"])) == len(names) + 1


def test_gap_shows_the_matched_means(table, compared):
    figure = gap(table, compared)
    assert len(figure.axes) == 2 * 3
    for number, task in enumerate(TASKS):
        loss, score, curve = figure.axes[3 * number : 3 * number + 3]
        rows = compared.loss[compared.loss["task"] == task].groupby("bin")
        rows = rows[["log_loss", "st", "mt"]].mean()
        for variant, side in (("single", "st"), ("multi", "mt")):
            x, y = line_of(loss, variant)
            np.testing.assert_allclose(x, np.exp(rows["log_loss"]))
            np.testing.assert_allclose(y, rows[side])
        matched = compared.score[compared.score["task"] == task].groupby("bin")["mt"]
        np.testing.assert_allclose(line_of(score, "multi")[1], 100 * matched.mean())
        rows = compared.curve[compared.curve["task"] == task]
        np.testing.assert_allclose(line_of(curve, "multi")[1], rows["gap"])
        for ax in (loss, score, curve):  # training goes from left to right
            assert ax.get_xlim()[0] > ax.get_xlim()[1]


def test_every_axis_has_its_unit(table, compared):
    figure = gap(table, compared, narrow=True)
    assert {ax.get_xlabel() for ax in figure.axes} == {axis.TRAINING_LOSS}
    assert {ax.get_ylabel() for ax in figure.axes} == {
        "test loss (nats)", "test accuracy (%)", "gap (nats), + is MT worse"
    }  # fmt: skip
    assert figure.get_figwidth() == pytest.approx(sheet.NARROW)
    assert len({ax.get_position().x0 for ax in figure.axes}) == 1


def test_not_comparable_is_said(table, compared):
    curve = compared.curve.query("task == 'a' and bin == 0").assign(
        comparable=False, reason="no overlap"
    )
    loss = compared.loss.assign(comparable=False)
    figure = gap(table, compared._replace(curve=curve, loss=loss, score=loss))
    texts = [text.get_text() for text in figure.axes[2].texts]
    assert texts == ["not comparable: multi: no overlap"]


def test_learning_shows_the_mean_of_seeds(df, table):
    figure = plots.learning(table, TASKS, LOOKS, SCORES)
    rows = df.query("variant == 'multi' and task == 'a' and split == 'test'")
    rows = rows[rows["name"] == "loss"].groupby("step")["value"].mean()
    x, y = line_of(figure.axes[1], "multi")
    np.testing.assert_allclose(x, STEPS)
    np.testing.assert_allclose(y, rows)


def test_mean_over_tasks(table):
    both = [bundle.bundle(table, "test", "loss", t, "multi") for t in TASKS]
    mean = bundle.mean_over(both)
    np.testing.assert_allclose(mean.values, (both[0].values + both[1].values) / 2)


def test_mean_over_tasks_with_unlike_steps():
    values, sound = np.array([[1.0], [5.0], [2.0]]), np.ones(1, bool)
    early = bundle.Bundle(np.array([0.0, 1, 3]), values, sound)
    late = bundle.Bundle(np.array([0.0, 2, 3]), 2 * values, sound)
    mean = bundle.mean_over([early, late])
    assert mean.steps.tolist() == [0, 3]
    np.testing.assert_allclose(mean.values, [[1.5], [3]])


TILES = {
    (rate, size): plots.Tile(shade, f"{shade}", [], False, False)
    for shade, (rate, size) in enumerate([(0.1, 4), (0.1, 8), (0.01, 4), (0.01, 8)])
}


@pytest.mark.parametrize("less", [False, True])
def test_the_best_candidate_is_the_darkest(less):
    figure = plots.sweep(
        [plots.Grid("multi", "red", TILES)], "loss", less_is_better=less
    )
    ax, bar = figure.axes
    patches: Any = ax.patches
    brightness = {patch.get_xy(): sum(patch.get_facecolor()[:3]) for patch in patches}
    best = min(brightness, key=lambda xy: brightness[xy])
    # Learning rates rise, batch sizes go to the right.
    assert best == ((-0.5, 0.5) if less else (0.5, -0.5))
    low, high = bar.get_xlim()
    assert (low > high) == less  # what is better is on the right


def test_chosen_and_lost_candidates_are_marked():
    tiles = TILES | {
        (0.1, 4): plots.Tile(3, "3.0", ["c=0.4"], False, True),
        (0.01, 4): plots.Tile(np.nan, "–", [], True, False),
    }
    figure = plots.sweep([plots.Grid("multi", "red", tiles)] * 2, "score", narrow=True)
    ax: Any = figure.axes[0]
    frames = {patch.get_xy() for patch in ax.patches if not patch.get_fill()}
    hatched = {patch.get_xy() for patch in ax.patches if patch.get_hatch()}
    assert frames == {(-0.5, 0.5)} and hatched == {(-0.5, -0.5)}
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert sorted(texts) == ["1", "3", "3.0", "c=0.4", "×"]


def test_intervals_lie_on_what_is_negligible():
    early = plots.Interval(8.0, 6.0, 10.0, "")
    rows = {
        "a": [plots.Mark("multi", early, hollow=True)],
        "b": [plots.Mark("multi", plots.Interval(0, 0, 0, "one seed"))],
    }
    panel = plots.Panel("s", "gap (%)", 5.0, rows)
    figure = plots.intervals([panel], LOOKS, {"multi": True})
    (ax,) = figure.axes
    (band,) = ax.patches
    box = band.get_extents().transformed(ax.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((-5, 5))
    marks: Any = [line for line in ax.lines if line.get_marker() == "s"]
    assert [line.get_xdata() for line in marks] == [[8.0]]
    assert marks[0].get_markerfacecolor() == "white"
    assert [text.get_text() for text in ax.texts] == ["not comparable"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # from top to bottom


def test_a_point_per_task():
    x = {"multi": np.array([1.0, 2.0]), "single": np.array([3.0])}
    y = {"multi": np.array([4.0, 5.0]), "single": np.array([np.nan])}
    panel = plots.Points("transfer", "%", x, y, "ρ = 0.1")
    figure = plots.correlations([panel], LOOKS, "conflict", narrow=True)
    (ax,) = figure.axes
    lines: Any = [line for line in ax.lines if line.get_marker() in ("o", "s")]
    shown = [line.get_xdata().tolist() for line in lines]
    assert [4.0, 5.0] in [line.get_ydata().tolist() for line in lines]
    assert sorted(shown) == [[1.0, 2.0], [3.0]]
    assert "ρ = 0.1" in [text.get_text() for text in ax.texts]


def test_a_run_that_diverged_is_no_part_of_the_mean():
    values = np.array([[1.0, 2.0, 30.0], [1.0, 2.0, np.nan]])
    runs = bundle.Bundle(np.arange(2.0), values, np.array([True, True, False]))
    np.testing.assert_allclose(runs.mean, 1.5)


def test_matrices_of_cosines(df, table):
    matrices = plots.matrices(table, "multi", TASKS)
    assert list(matrices) == [0, 10, 100]
    rows = df[(df["step"] == 10) & (df["task"] == "a") & (df["name"] == "cosine/$b_1")]
    np.testing.assert_allclose(matrices[10][0, 1], rows["value"].mean())
    assert np.isnan(np.diag(matrices[10])).all()
    assert plots.matrices(table, "single", TASKS) == {}


def test_the_same_bytes_twice(table, compared):
    first, second = (gap(table, compared) for _ in range(2))
    assert plots.svg(first) == plots.svg(second)
    assert plots.png(first, 50) == plots.png(second, 50)


def test_numbers_in_letters_are_not_cut():
    made = sheet.sheet(1)
    made.axes[0][0].text(0.5, 0.5, "0.123456789")
    text = plots.svg(made.figure).decode()
    assert ">0.123456789<" in text
    assert not any(len(end) > 2 for end in _fractions_in_paths(text))


def _fractions_in_paths(text):
    paths = text.split(' d="')[1:]
    return [
        word.partition(".")[2]
        for path in paths
        for word in path.partition('"')[0].split()
    ]


def test_paper_is_white(table, compared):
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(plots.png(gap(table, compared), 50))).convert("RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_settings_of_matplotlib_stay(table):
    before = {name: mpl.rcParams[name] for name in style.RC}
    plots.png(plots.learning(table, TASKS, LOOKS, SCORES), 50)
    assert {name: mpl.rcParams[name] for name in style.RC} == before
    with style.styled():
        assert {name: mpl.rcParams[name] for name in style.RC} != before


@pytest.mark.parametrize(
    ("values", "log", "scale"),
    [
        ([0.1, 10.0], True, "log"),
        ([0.1, 10.0], False, "linear"),
        ([-10.0, 0.0, 10.0], True, "symlog"),
        ([3.0, 3.0], True, "log"),
        ([0.0, 0.0], True, "linear"),
        ([np.nan], True, "linear"),
        ([1e-8, 1e8], True, "log"),
    ],
)
def test_axes_fit_any_values(values, log, scale):
    made = sheet.sheet(1)
    ((ax,),) = made.axes
    axis.fit(ax, np.array(values), log=log)
    made.figure.draw_without_rendering()
    assert ax.get_yscale() == scale
    low, high = ax.get_ylim()
    inside = [low < value < high for value in values if np.isfinite(value)]
    assert all(inside) and low < high


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("narrow", [False, True])
def test_panels_do_not_overlap(groups, narrow):
    made = sheet.sheet(groups, 2, narrow=narrow)
    boxes = [ax.get_position() for column in made.axes for ax in column]
    assert all(0 < b.x0 < b.x1 < 1 and 0 < b.y0 < b.y1 < 1 for b in boxes)
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
