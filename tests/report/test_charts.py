"""Charts: what they show is what they were given, and they can be drawn."""

import base64
import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from mtl_jax import analysis
from mtl_jax.report import charts, cosines, findings, pictures
from mtl_jax.report.charts import Axis, export, payload, rows, trajectories
from mtl_jax.types import InputError
from tests import workdirs
from tests.workdirs import STEPS
from tests.workdirs import trajectories as made_rows

TASKS = ["a", "$b_1"]
LOOKS = charts.looks(["single", "multi"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = made_rows(tasks=TASKS, seeds=(0, 1, 2))
    return workdirs.write(tmp_path_factory.mktemp("charts") / "run", made)


@pytest.fixture(scope="module")
def found(run):
    return findings.find(run)


@pytest.fixture(scope="module")
def drawn(found):
    correlated = findings.correlations([found])
    made = pictures.pictures(found, charts.looks(found.variants), correlated)
    return {picture.id: picture for picture in made}


def mean_of(panel, variant):
    """Abscissas and ordinates of the thick line of a variant."""
    line = panel.rows[(panel.rows["kind"] == "mean")]
    line = line[line["variant"] == variant]
    return line["x"].to_numpy(float), line["y"].to_numpy(float)


def marks_of(scene, kind):
    """All items of a kind of mark in a scene graph of Vega."""
    if isinstance(scene, list):
        return [item for part in scene for item in marks_of(part, kind)]
    if not isinstance(scene, dict):
        return []
    own = scene.get("items", []) if scene.get("marktype") == kind else []
    return own + marks_of(scene.get("items", []), kind)


def scene_of(picture):
    spec = json.dumps(export.whole(picture))
    return json.loads(json.dumps(vl_convert.vegalite_to_scenegraph(spec)))["scenegraph"]


def test_looks_are_told_apart_and_stay_the_same():
    names = ["single", "multi", *(f"multi-{x}" for x in "abcdefghijklmnopqrstuvwxy")]
    by_variant = charts.looks(names)
    assert len({look[1:] for look in by_variant.values()}) == len(names)
    few = list(by_variant.values())[:7]
    for part in ("color", "dash", "marker"):
        assert len({getattr(look, part) for look in few}) == len(few)
    assert charts.looks(names[:3])["multi"] == by_variant["multi"]


def test_gap_shows_the_matched_means(found, drawn):
    df = found.records
    panels = drawn["gap"].panels
    assert len(panels) == 2 * 3 and drawn["gap"].columns == 3
    tables = analysis.gap(df), analysis.gap(df, name="accuracy")
    for number, task in enumerate(TASKS):
        loss, score, curve = panels[3 * number : 3 * number + 3]
        assert {panel.task for panel in (loss, score, curve)} == {task}
        bins = tables[0][tables[0]["task"] == task].groupby("bin")
        bins = bins[["log_loss", "st", "mt"]].mean()
        for variant, side in (("single", "st"), ("multi", "mt")):
            x, y = mean_of(loss, variant)
            np.testing.assert_allclose(x, np.exp(bins["log_loss"]))
            np.testing.assert_allclose(y, bins[side])
        matched = tables[1][tables[1]["task"] == task].groupby("bin")["mt"]
        np.testing.assert_allclose(mean_of(score, "multi")[1], 100 * matched.mean())
        band = analysis.gap_curve(df)
        band = band[band["task"] == task]
        np.testing.assert_allclose(mean_of(curve, "multi")[1], band["gap"])
        np.testing.assert_allclose(curve.rows["low"], band["low"])


def encodings(panel, channel):
    """Encodings of data on an axis, of all layers of a panel."""
    layers = [layer["encoding"].get(channel, {}) for layer in panel.spec["layer"]]
    return [encoding for encoding in layers if "axis" in encoding]


def test_every_axis_has_its_unit_and_training_goes_to_the_right(drawn):
    titles = set()
    for panel in drawn["gap"].panels:
        for x in encodings(panel, "x"):
            assert x["axis"]["title"] == "training loss (nats), falling →"
            assert x["scale"]["reverse"] and x["scale"]["type"] == "log"
        titles |= {y["axis"]["title"] for y in encodings(panel, "y")}
    assert titles == {
        "test loss (nats)", "test accuracy (%)", "gap (nats), + is MT worse"
    }  # fmt: skip


def test_not_comparable_is_said(found):
    versus = found.versus["multi"]
    curve = versus.gap_curve.assign(comparable=False, reason="no overlap")
    panel = pictures._gap_curve("a", LOOKS, {"multi": versus._replace(gap_curve=curve)})
    assert panel.note == "not comparable: multi: no overlap" and not panel.spec


def test_learning_shows_every_seed_and_their_mean(found, drawn):
    (panel,) = (
        p for p in drawn["learning"].panels
        if p.task == "a" and encodings(p, "y")[0]["axis"]["title"] == "test loss (nats)"
    )  # fmt: skip
    df = found.records.query("variant == 'multi' and task == 'a' and split == 'test'")
    df = df[df["name"] == "loss"]
    x, y = mean_of(panel, "multi")
    np.testing.assert_allclose(x, STEPS)
    np.testing.assert_allclose(y, df.groupby("step")["value"].mean())
    thin = panel.rows.query("kind == 'seed' and variant == 'multi' and seed == '1'")
    np.testing.assert_allclose(thin["y"], df[df["seed"] == 1]["value"])


def test_mean_over_tasks(found):
    both = [charts.bundle(found.table, "test", "loss", t, "multi") for t in TASKS]
    mean = charts.mean_over(both)
    np.testing.assert_allclose(mean.values, (both[0].values + both[1].values) / 2)


def test_mean_over_tasks_with_unlike_steps():
    values, sound = np.array([[1.0], [5.0], [2.0]]), np.ones(1, bool)
    seeds = np.zeros(1, int)
    early = trajectories.Bundle(np.array([0.0, 1, 3]), seeds, values, sound)
    late = trajectories.Bundle(np.array([0.0, 2, 3]), seeds, 2 * values, sound)
    mean = charts.mean_over([early, late])
    assert mean.steps.tolist() == [0, 3]
    np.testing.assert_allclose(mean.values, [[1.5], [3]])


def test_a_run_that_diverged_ends_in_a_cross_and_is_no_part_of_the_mean():
    values = np.array([[1.0, 2.0, 30.0], [1.0, 2.0, np.nan]])
    sound = np.array([True, True, False])
    runs = trajectories.Bundle(np.arange(2.0), np.arange(3), values, sound)
    np.testing.assert_allclose(runs.mean, 1.5)
    of_runs = rows.of_runs(runs, "multi", runs.steps)
    table = rows.joined([of_runs])
    lost = table[table["kind"] == "lost"]
    assert lost[["x", "y", "last"]].to_numpy().tolist() == [[0.0, 30.0, True]]
    made = rows.joined([of_runs, rows.of_mean(runs, "multi")])
    assert set(payload.columns(made)["last"]) == {0, 1}  # the page asks for its truth
    panel = charts.curves("t", made, Axis("step"), Axis("loss"), LOOKS)
    scene = scene_of(charts.Picture("t", "", "", [panel], {}))
    assert texts_of(scene).count("×") == 1


def test_the_best_candidate_is_the_darkest():
    cells = pd.DataFrame(
        [(4, 0.1, 3.0, "3", True, False), (8, 0.1, 1.0, "1", False, False),
         (4, 0.01, 2.0, "2", False, False), (8, 0.01, np.nan, "×", False, True)],
        columns=["column", "row", "value", "text", "chosen", "lost"],
    )  # fmt: skip
    options = {"scheme": "yellowgreenblue", "orders": ([4, 8], [0.1, 0.01])}
    for less in (False, True):
        panel = charts.heat("multi", cells, ("b", "r"), "loss", domain=(1.0, 3.0),
                            reverse=less, **options)  # fmt: skip
        scene = scene_of(charts.Picture("t", "", "", [panel], {}))
        rects = [i for i in marks_of(scene, "rect") if i.get("stroke") == "white"]
        cell = {round(item["x"]): item["fill"] for item in rects if item["y"] < 5}
        brightness = {x: _brightness(color) for x, color in cell.items()}
        darkest = min(brightness, key=lambda x: brightness[x])
        assert (darkest > 10) == less  # 3.0 is on the left, 1.0 on the right
        frames = [item for item in marks_of(scene, "rect")
                  if item.get("stroke") == "#222222"]  # fmt: skip
        assert len(frames) == 1


def _brightness(color):
    numbers = color.values() if isinstance(color, dict) else re.findall(r"\d+", color)
    return sum(map(float, numbers))


def texts_of(scene):
    """All texts, those in several lines as one."""
    found = [item["text"] for item in marks_of(scene, "text")]
    return [" ".join(text) if isinstance(text, list) else text for text in found]


def test_intervals_lie_on_what_is_negligible():
    marks = pd.DataFrame(
        [("a", "multi", 8.0, 6.0, 10.0, "", True),
         ("b", "multi", np.nan, np.nan, np.nan, "one seed", False)],
        columns=["name", "variant", "value", "low", "high", "reason", "hollow"],
    )  # fmt: skip
    panel = charts.intervals("s", marks, "gap (%)", LOOKS, margin=5.0)
    band = panel.spec["layer"][0]["encoding"]
    assert (band["x"], band["x2"]) == ({"datum": -5.0}, {"datum": 5.0})
    scene = scene_of(charts.Picture("t", "", "", [panel], LOOKS))
    (point,) = (i for i in marks_of(scene, "symbol") if i.get("strokeWidth") == 1.3)
    assert point["fill"] == "white"
    texts = texts_of(scene)
    assert texts.count("not comparable") == 1 and texts.index("a") < texts.index("b")


def test_a_point_per_task():
    cloud = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [4.0, 5.0, np.nan],
                          "variant": ["multi", "multi", "single"]})  # fmt: skip
    axes = Axis("conflict", zero=True), Axis("%", zero=True)
    panel = charts.scatter("transfer", cloud, *axes, LOOKS, note="ρ = 0.1")
    scene = scene_of(charts.Picture("t", "", "", [panel], {}))
    points = [item for item in marks_of(scene, "symbol") if item.get("size") == 40]
    assert len(points) == 2 == len(panel.rows)
    assert "ρ = 0.1" in texts_of(scene)


def test_matrices_of_cosines(found):
    df = found.records
    matrices = cosines.matrices(found.table, "multi", TASKS)
    assert list(matrices) == [0, 10, 100]
    cell = df[(df["step"] == 10) & (df["task"] == "a") & (df["name"] == "cosine/$b_1")]
    np.testing.assert_allclose(matrices[10][0, 1], cell["value"].mean())
    assert np.isnan(np.diag(matrices[10])).all()
    assert cosines.matrices(found.table, "single", TASKS) == {}


def test_all_pictures_are_drawn_with_a_mark_for_every_row(drawn):
    for picture in drawn.values():
        scene = scene_of(picture)
        assert marks_of(scene, "symbol") or marks_of(scene, "rect"), picture.id
        texts = set(texts_of(scene))
        assert {panel.title for panel in picture.panels if panel.title} <= texts
    panel = drawn["gap"].panels[0]
    means = panel.rows[panel.rows["kind"] == "mean"]
    near = marks_of(scene_of(drawn["gap"]._replace(panels=[panel])), "symbol")
    assert len([item for item in near if item.get("size") == 70]) == len(means)


@pytest.mark.parametrize(
    ("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_files_for_a_paper(drawn, kind, start):
    assert export.render(drawn["gap"], kind).startswith(start)


def test_the_same_bytes_twice(drawn):
    first, second = (export.render(drawn["learning"], "svg") for _ in range(2))
    assert first == second


def test_nothing_to_draw():
    nothing = charts.Picture("gap", "", "", [charts.empty("a", "no score")], {})
    with pytest.raises(InputError, match="'gap' has nothing to draw"):
        export.whole(nothing)


@pytest.mark.parametrize(
    "values", [[0.1, 10.0], [-10.0, 0.0, 10.0], [3.0, 3.0], [0.0, 0.0], [1e-8, 1e8]]
)
@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_axes_take_any_values(values, scale):
    line = rows.line("multi", np.arange(len(values), dtype=float), np.array(values))
    table = rows.joined([line])
    panel = charts.curves("t", table, Axis("x"), Axis("y", scale), LOOKS)
    if panel.spec:
        export.render(charts.Picture("t", "", "", [panel], {}), "svg")
    assert bool(panel.spec) == (scale != "log" or max(values) > 0)


def test_what_the_page_gets_is_what_is_drawn(drawn):
    panel = drawn["learning"].panels[0]
    sent = json.loads(json.dumps(payload.of_picture(drawn["learning"])))
    columns = json.loads(gzip.decompress(base64.b64decode(sent["rows"])))[0]
    np.testing.assert_allclose(columns["y"], panel.rows["y"], rtol=1e-4)
    coded = columns["variant"]
    names = [coded["names"][code] for code in coded["codes"]]
    assert names == panel.rows["variant"].tolist()
    assert sent["panels"][0]["spec"] == json.loads(json.dumps(panel.spec))


def test_wide_bands_do_not_hide_the_line():
    x = np.arange(20.0)
    low, high = -np.ones(20), np.ones(20)
    low[-1], high[-1] = -1e3, 1e3
    line = rows.line("multi", x, np.zeros(20), low=low, high=high)
    panel = charts.curves("t", rows.joined([line]), Axis("x"), Axis("y"), LOOKS)
    (domain,) = {tuple(y["scale"]["domain"]) for y in encodings(panel, "y")}
    assert -1.3 < domain[0] < -1 < 1 < domain[1] < 1.3
