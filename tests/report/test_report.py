"""The page as a reader and as a browser find it, of runs good and bad."""

import base64
import gzip
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtl_jax import analysis, report
from mtl_jax.report import (
    choice,
    claim_pictures,
    claims,
    findings,
    page,
    pictures,
    sentences,
    side_by_side,
    tables,
)
from mtl_jax.report import sweep as report_sweep
from mtl_jax.report.charts import looks
from mtl_jax.report.sweep import sweep
from mtl_jax.types import InputError
from tests import workdirs
from tests.workdirs import FACTORS, trajectories

NASTY = "<b>&$x_1^"
PICTURES = ["learning", "gap", "effects", "task-effects", "ranking", "factors"]
PICTURES += ["factors-more", "conflict", "cosines", "weights", "contrasts"]
PICTURES += ["conflict-effects", "costs", "claim-1", "claim-2", "claim-4"]
TABLES = ["claims", "tasks", "delta-m", "gaps", "correlations", "conflict-correlations"]
VOID = {"meta", "img", "source", "br", "link", "input"}


class Page(HTMLParser):
    """Text, tags and what is referred to; raises where tags do not nest."""

    def __init__(self, path):
        super().__init__()
        self.text, self.open, self.links, self.ids = [], [], [], []
        self.pictures, self.payloads, self.tags, self.cells = {}, {}, [], []
        self.feed(path.read_text())
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named[k] for k in ("src", "href", "srcset") if k in named]
        if tag == "figure":
            self.pictures[named["data-figure"]] = ""
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.cells.append([])
        elif tag == "tr":
            self.cells[-1].append(0)
        elif tag in ("td", "th"):
            self.cells[-1][-1] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] in ("style", "title"):
            return
        if self.open[-1] == "script":
            if self.ids[-1].startswith("data-"):
                self.payloads[self.ids[-1].removeprefix("data-")] = json.loads(data)
            return
        if self.open[-1] == "figcaption":
            self.pictures[list(self.pictures)[-1]] += data
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    rows = trajectories(
        ("single", "multi", "multi-pcgrad"), (NASTY, "b"), (0, 1, 2), factors=FACTORS
    )
    return workdirs.write(tmp_path_factory.mktemp("report") / "run", rows)


@pytest.fixture(scope="module")
def analysed(workdir):
    return findings.find(workdir)


@pytest.fixture(scope="module")
def correlations(analysed):
    return findings.correlations([analysed])


@pytest.fixture(scope="module")
def judged(analysed):
    return claims.verdicts([analysed])


@pytest.fixture(scope="module")
def path(workdir):
    return report.write(workdir)


@pytest.fixture(scope="module")
def parsed(path):
    return Page(path)


@pytest.fixture
def bare(monkeypatch):
    """Leave pictures away, where it is not about them."""
    monkeypatch.setattr(page, "pictures", lambda *_: [])
    monkeypatch.setattr(page, "javascript", lambda: "")
    monkeypatch.setattr(page.claim_pictures, "pictures", lambda *_: [])


def words_of(tmp_path, rows, **config):
    """Return the text of the report of these records."""
    parsed = Page(report.write(workdirs.write(tmp_path / "run", rows, **config)))
    check_tables(parsed)
    return parsed.words


def check_tables(parsed):
    """Check that no number is NaN without a word, and that tables are tables."""
    assert all(len(set(counts)) == 1 for counts in parsed.cells)
    assert not re.search(r"\b(nan|inf)\b", parsed.words.lower())


def test_every_picture_and_table_is_there(parsed):
    assert list(parsed.pictures) == order(PICTURES, parsed)
    assert all(len(alt) > 30 for alt in parsed.pictures.values())
    for name in TABLES:
        assert f"table-{name}" in parsed.ids
    assert len(parsed.ids) == len(set(parsed.ids))


def order(names, parsed):
    """Sort the names in the order of the page."""
    assert set(names) == set(parsed.pictures)
    return sorted(names, key=list(parsed.pictures).index)


def test_files_for_a_paper_lie_beside_the_page(tmp_path):
    workdir = workdirs.write(tmp_path / "run", trajectories(factors=()))
    path = report.write(workdir, tmp_path / "out", figures=("png",))
    for name in ("gap", "learning", "task-effects", "costs", "claim-1"):
        assert (path.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(path.parent.glob("*.unfinished"))
    with pytest.raises(InputError, match="figures 'gif' is not one of: svg, png, pdf"):
        report.write(workdir, tmp_path / "none", figures=("gif",))
    assert not (tmp_path / "none").exists()


def test_the_page_needs_nothing_else(path, parsed):
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert path.stat().st_size < 4_000_000
    assert "link" not in parsed.tags and "img" not in parsed.tags
    assert all(link.startswith("#") for link in parsed.links)
    style = re.search(r"<style>(.*?)</style>", path.read_text(), re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    assert 'name="viewport"' in path.read_text()


def test_every_figure_has_its_data(parsed):
    assert list(parsed.payloads) == list(parsed.pictures)
    for name, payload in parsed.payloads.items():
        assert any(panel["spec"] for panel in payload["panels"]), name
        columns = json.loads(gzip.decompress(base64.b64decode(payload["rows"])))
        for panel, its in zip(payload["panels"], columns, strict=True):
            assert bool(panel["spec"]) == bool(its) or panel["note"], name


def test_nothing_is_nan(parsed):
    check_tables(parsed)


def test_names_are_escaped(path, parsed):
    assert NASTY in parsed.words
    assert NASTY not in path.read_text() and "<b>" not in path.read_text()
    for variant in ("single (ST)", "multi (MT, sum of losses)", "multi-pcgrad"):
        assert variant in parsed.words


def test_seeds_and_what_their_intervals_are_worth(parsed):
    assert "3 (single), 3 (multi), 3 (multi-pcgrad)" in parsed.words
    assert "95% t intervals of differences that are paired by seed" in parsed.words
    assert "n = 3" in parsed.words


def test_where_it_ran(parsed):
    for text in ("2 × NVIDIA H200", "jax 9.8.7", "0123456789ab with changes"):
        assert text in parsed.words
    assert "summed over 2 sessions" in parsed.words
    assert "factors.names" in parsed.words


def test_sentences_say_what_the_tables_say(analysed, parsed):
    mean = analysed.versus["multi"].gap_summary.query(
        "task == '' and statistic == 'mean'"
    )
    value, low, high = mean[["value", "low", "high"]].to_numpy()[0]
    text = f"multi {value:+.3f} [{low:.3f}, {high:.3f}] nats".replace("-", "−")
    assert text in parsed.words
    delta = analysed.delta_m.set_index("variant").loc["multi-pcgrad"]["delta_m"]
    assert f"multi-pcgrad {delta:+.2f}".replace("-0", "−0") in parsed.words


def test_cells_are_what_the_analysis_found(analysed):
    made = tables.tasks(analysed, looks(analysed.variants))
    row = next(r for r in made.rows if r[0].text == "b" and r[1].text == "loss (nats)")
    rows = analysed.transfer.query(
        "task == 'b' and name == 'loss' and variant == 'multi'"
    )
    assert made.head[2:5] == [
        "single (ST)", "multi (MT, sum of losses)", "difference, + is MT better"
    ]  # fmt: skip
    expected = rows[["st", "mt", "difference"]].to_numpy()[0]
    shown = [float(cell.text.replace("−", "-")) for cell in row[2:5]]
    assert shown == pytest.approx(expected, abs=5e-4)


@pytest.mark.usefixtures("bare")
def test_a_second_write_replaces_the_first(tmp_path):
    rows = trajectories(factors=(), steps=(0, 1, 10, 100))
    half = [row for row in rows if row["step"] < 100]
    run = workdirs.write(tmp_path / "run", half)
    assert "10 of 100: unfinished" in Page(report.write(run)).words
    whole = workdirs.write(tmp_path / "whole", rows)
    (whole / "records").rename(run / "records2")
    (run / "records").rename(run / "old")
    (run / "records2").rename(run / "records")
    (whole / "records.json").rename(run / "records.json")
    assert "100 of 100" in Page(report.write(run)).words
    assert len(list((run / "report").glob("index*"))) == 1


@pytest.mark.usefixtures("bare")
def test_a_page_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    run = workdirs.write(tmp_path / "run", trajectories(factors=()))
    before = report.write(run).read_bytes()

    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr(page, "_render", fail)
    with pytest.raises(ValueError, match="no"):
        report.write(run)
    assert (run / "report" / "index.html").read_bytes() == before


@pytest.mark.usefixtures("bare")
def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    run = workdirs.write(tmp_path / "run", trajectories(factors=()))
    before = report.write(run).read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written to .* No space left"):
        report.write(run)
    assert (run / "report" / "index.html").read_bytes() == before
    assert not list((run / "report").glob("*.unfinished"))


class TestDegraded:
    def test_one_seed(self, tmp_path):
        text = words_of(tmp_path, trajectories(seeds=(0,)))
        assert "1 (single), 1 (multi)" in text and "no interval" in text
        assert "with one seed nothing is known of others" in text

    def test_no_baseline(self, tmp_path):
        text = words_of(tmp_path, trajectories(("multi",)))
        assert "There is no 'single' variant (ST)" in text
        assert "not comparable" not in text.replace("nothing here is comparable", "")

    def test_baseline_only(self, tmp_path):
        text = words_of(tmp_path, trajectories(("single",)))
        assert "Only 'single' was trained" in text

    def test_no_test_split(self, tmp_path):
        rows = trajectories(("single", "multi", "multi-mgda"))
        rows = [row for row in rows if row["split"] != "test"]
        text = words_of(tmp_path, rows)
        assert "multi-mgda" in text and "generalization gap (nats)" not in text

    def test_no_factors(self, tmp_path):
        text = words_of(tmp_path, trajectories(factors=()))
        assert "No factor of a task was recorded" in text
        assert "No conflict between task gradients was recorded" in text

    def test_no_overlap(self, tmp_path):
        rows = trajectories(offset={"single": 0, "multi": 20})
        text = words_of(tmp_path, rows)
        assert "not comparable in any of 2 tasks (no overlap of training" in text

    def test_all_runs_of_a_variant_diverged(self, tmp_path):
        text = words_of(tmp_path, trajectories(diverged=("multi",)))
        assert "no sound curve of 'multi'" in text and "Runs that diverged" in text

    def test_everything_diverged_at_once(self, tmp_path):
        rows = trajectories(diverged=("single", "multi"), steps=(0,))
        assert "0 of 100: all runs diverged" in words_of(tmp_path, rows)

    def test_several_rates(self, tmp_path):
        rows = trajectories()
        worse = trajectories(rate=0.5, offset={"single": 1, "multi": 1})
        for row in worse:
            row["run"] += 100
            if row["name"] == "accuracy":
                row["value"] *= 0.5
        text = words_of(tmp_path, rows + worse)
        assert "0.001, 32 chosen by validation accuracy, among the runs" in text
        assert "2 candidates for each choice, once for all tasks of multi" in text
        assert "Learning rates and batch sizes" in text and "0.5" in text

    def test_rates_without_validation(self, tmp_path):
        rows = trajectories() + [
            {**row, "learning_rate": 0.5, "run": row["run"] + 100}
            for row in trajectories()
        ]
        rows = [row for row in rows if row["split"] != "validation"]
        text = words_of(tmp_path, rows)
        assert "Transfer: not comparable" in text and "0.001, 32" in text

    def test_many_tasks(self, tmp_path):
        tasks = [f"attribute_{number}" for number in range(12)]
        rows = trajectories(tasks=tasks, steps=(0, 1, 10, 100))
        text = words_of(tmp_path, rows)
        assert "Of 12 tasks 6 are shown" in text and "attribute_11" in text

    def test_one_point(self, tmp_path):
        text = words_of(tmp_path, trajectories(steps=(0,)))
        assert "fewer than 2 usable points" in text

    def test_no_score(self, tmp_path):
        rows = [row for row in trajectories() if row["name"] != "accuracy"]
        words_of(tmp_path, rows)

    def test_tasks_with_different_scores(self, tmp_path):
        rows = [
            {**row, "name": "mse"}
            if row["name"] == "accuracy" and row["task"] == "b"
            else row
            for row in trajectories()
        ]
        text = words_of(tmp_path, rows)
        assert "accuracy (%)" in text and "mse" in text

    def test_values_that_are_not_finite(self, tmp_path):
        rows = trajectories()
        for row in rows:
            if row["step"] == 5 or row["name"] == "coherence":
                row["value"] = float("nan")
        words_of(tmp_path, rows)

    def test_without_run_json_and_config_json(self, tmp_path):
        run = workdirs.write(tmp_path / "run", trajectories(factors=()))
        (run / "run.json").unlink()
        (run / "config.json").write_text("{")
        assert "100 of 100" in Page(report.write(run)).words

    def test_many_optimizers(self, tmp_path):
        names = ["single", "multi", *(f"multi-{x}" for x in "abc")]
        rows = trajectories(names, ["a"], steps=(0, 1, 10, 100))
        assert "Multi-task optimizers (C4)" in words_of(tmp_path, rows)

    def test_more_optimizers_than_looks(self, tmp_path):
        names = ["single", "multi", *(f"multi-{x}" for x in "abcdef")]
        rows = trajectories(names, ["a"], steps=(0, 1, 10, 100))
        crowd = findings.find(workdirs.write(tmp_path / "run", rows))
        drawn = pictures.pictures(crowd, looks(names), findings.correlations([crowd]))
        captions = {picture.id: picture.caption for picture in drawn}
        assert "every seed" in captions["learning"]
        assert "All 7 MT variants, the best first" in captions["ranking"]

    def test_several_workdirs(self, tmp_path):
        rows = trajectories(tasks=["a"], steps=(0, 1, 10, 100))
        runs = [workdirs.write(tmp_path / name, rows) for name in "xy"]
        with pytest.raises(InputError, match="--out"):
            report.write(runs)
        parsed = Page(report.write(runs, tmp_path / "out"))
        check_tables(parsed)
        for text in ("s (x)", "s (y)", "mean over settings"):
            assert text in parsed.words
        assert len(parsed.ids) == len(set(parsed.ids))
        assert {"s-x-gap", "s-y-gap"} <= set(parsed.pictures)


LOW, HIGH = (0.01, 64), (0.1, 16)
APART = {("single", "a"): LOW, ("single", "b"): HIGH, ("single", "c"): LOW}
APART |= {("multi", "a"): HIGH, ("multi", "b"): HIGH, ("multi", "c"): LOW}


def selected(path, cells):
    """Make a workdir as a study leaves it: every task in the runs chosen for it.

    Values of whole runs are of the first task's, as `analysis.keep` has them.
    """
    rows = trajectories(tasks="abc", steps=(0, 1, 10, 100))
    for row in rows:
        chosen = {
            task: cell for (v, task), cell in cells.items() if v == row["variant"]
        }
        first = next(iter(chosen.values()))
        row["learning_rate"], row["batch_size"] = chosen.get(row["task"], first)
    return workdirs.write(path, rows)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    run = selected(tmp_path_factory.mktemp("study") / "selected", APART)
    workdirs.sweep(run, APART, {LOW: "c=1"})
    return run


@pytest.fixture(scope="module")
def study(apart):
    return findings.find(apart)


def cells_of(panel):
    """Cells of a heat map, by learning rate and batch size."""
    return {(tile.row, tile.column): tile for tile in panel.rows.itertuples()}


class TestOfAStudy:
    def test_the_page_says_what_was_chosen(self, apart):
        parsed = Page(report.write(apart))
        check_tables(parsed)
        for text in (
            "multi: 0.1, 16 (a and b); 0.01, 64, c=1 (c) A task is shown in the",
            "in a sweep of its own: 4 candidates for each choice, task by task for "
            "every variant; 3 of 6 choices lie at the edge of the grid",
            "The best is chosen.",
            "chosen at the edge of the grid",
            "multi (its runs at 0.1, 16) mean cosine",
        ):
            assert text in parsed.words, text
        assert "that most tasks chose (multi 0.1, 16)" in parsed.pictures["conflict"]
        assert "The row of a task" in parsed.pictures["cosines"]
        assert "The sweep is not in it" in parsed.pictures["costs"]
        assert "provisional" not in parsed.words
        assert "weights" not in parsed.pictures  # no run has those of all tasks

    def test_nothing_is_chosen_a_second_time(self, study):
        assert set(study.records.query("variant == 'multi'")["task"]) == {*"abc", ""}
        assert study.cells["multi"] == {HIGH: ["a", "b"], LOW: ["c"]}
        assert len(study.choice.candidates) == 24 and study.choice.swept

    def test_many_candidates_are_left_to_their_file(self, study, monkeypatch):
        assert len(tables.candidates(study, looks(study.variants)).rows) == 24
        monkeypatch.setattr(tables, "MOST_CANDIDATES", 23)
        made = tables.candidates(study, looks(study.variants))
        assert len(made.rows) == 6 and "Of 24 candidates the chosen ones" in made.note

    def test_candidates_of_a_search_are_points(self, study, monkeypatch):
        monkeypatch.setattr(report_sweep, "MOST_RATES", 1)
        (picture,) = sweep(study, looks(study.variants))
        assert list(picture.looks) == ["batch 16", "batch 64"]
        assert len(picture.panels) == 6
        panel = picture.panels[0].rows
        assert sorted(panel["x"]) == [0.01, 0.01, 0.1, 0.1]
        assert (~panel["hollow"]).sum() == 1 and "Filled: chosen." in picture.caption

    @pytest.mark.usefixtures("bare")
    def test_tables_that_no_sweep_left(self, tmp_path):
        run = selected(tmp_path / "run", APART)
        workdirs.sweep(run, APART)
        (run / "candidates.csv").write_text("variant,task\nmulti,a\n")
        with pytest.raises(InputError, match="not what a sweep leaves"):
            report.write(run)

    def test_panels_and_marks(self, study, monkeypatch):
        (picture,) = sweep(study, looks(study.variants))
        assert [p.title for p in picture.panels] == [f"{v}, {t}" for v, t in APART]
        tables = [cells_of(panel) for panel in picture.panels]
        chosen = [c for cells in tables for c, tile in cells.items() if tile.chosen]
        assert chosen == list(APART.values())
        assert {tile.text for tile in tables[0].values()} == {"90.0\nc=1", "80.0"}
        assert tables[0][LOW].text.endswith("c=1")
        monkeypatch.setattr(report_sweep, "MOST_CHOICES", 5)
        (picture,) = sweep(study, looks(study.variants))
        single, _ = map(cells_of, picture.panels)
        assert single[HIGH].text == "83.3\n1 task"
        assert not single[0.1, 64].chosen

    def test_cells_without_a_value(self, study, tmp_path):
        workdirs.sweep(tmp_path, APART, validation=None, diverged=2)
        analysed = study._replace(choice=choice.choice_of(tmp_path, study.records))
        (picture,) = sweep(analysed, looks(analysed.variants))
        tiles = cells_of(picture.panels[0])
        assert [cell for cell, tile in tiles.items() if not tile.lost] == [LOW]

    def test_nothing_to_choose_from(self, analysed):
        assert not list(sweep(analysed, looks(analysed.variants)))


class TestClaims:
    def test_verdicts_are_those_of_the_analysis(self, analysed, parsed):
        table = analysis.claims(analysed.records)
        rows = table[(table["setting"] == "") & (table["subject"] == "")]
        rows = rows[rows["measure"] == "score"]
        for claim, verdict in rows[["claim", "verdict"]].itertuples(index=False):
            statement = claims.STATEMENTS[claim]
            assert f"{claim} {statement} {verdict}" in parsed.words
        assert "not selected on a sweep" in parsed.words
        assert parsed.words.index("The four claims") < parsed.words.index("Gap (C1)")

    def test_what_could_not_be_compared_says_why(self, parsed):
        assert "not comparable 0 degrees of freedom" in parsed.words
        assert "claim-3" not in parsed.pictures  # of two tasks

    def test_rows_of_the_table(self, judged):
        made = claims.section(judged)["tables"]["claims"]
        assert not made.rows[0][0].note  # there is one setting
        early = next(row for row in made.rows if row[1].text == "early gap")
        row = judged.of("C1", "early", "s")
        assert float(early[4].text.replace("−", "-")) == pytest.approx(
            row["effect"], abs=0.05
        )
        assert early[1].note == "% of ST's score" and early[6].text == "3"
        assert (early[2].text, early[3].text) == ("score", row["verdict"])

    def test_pictures_show_what_the_verdicts_rest_on(self, analysed, judged):
        drawn = claim_pictures.pictures(judged, looks(analysed.variants))
        first, _, last = (picture.panels for picture in drawn)
        (panel,) = (panel for panel in first if panel.title == "loss")
        gap = next(task for task in judged.evidence.gaps["loss"] if task.task == "b")
        early, late = panel.rows[panel.rows["name"] == "b"].itertuples()
        assert early.hollow and panel.spec["layer"][0]["encoding"]["x2"]["datum"] == 5
        assert late.value == pytest.approx(gap.values["late"].mean())
        transfer = judged.of("C4", "transfer")
        marks = last[0].rows.set_index("variant")
        assert marks.loc["multi-pcgrad", "low"] == transfer["low"]
        assert [panel.title for panel in last] == ["transfer", "optimization"]

    def test_over_several_settings(self, tmp_path):
        names = ("single", "multi", "multi-pcgrad")
        tasks = [f"t{number}" for number in range(4)]
        runs = []
        for setting in "xy":
            rows = trajectories(names, tasks, (0, 1, 2), steps=(0, 1, 10, 100))
            for row in rows:
                row["setting"] = setting
                if row["split"] == "probe" and row["name"] == "loss":
                    row["value"] *= 1 + (row["variant"] != "single") * (
                        0.001 * tasks.index(row["task"])
                    )
            runs.append(workdirs.write(tmp_path / setting, rows))
        workdirs.sweep(runs[0], {(name, ""): (1e-3, 32) for name in names})
        parsed = Page(report.write(runs, tmp_path / "out"))
        check_tables(parsed)
        assert {f"claim-{number}" for number in range(1, 5)} <= set(parsed.pictures)
        assert "C1 all settings the claim" in parsed.words
        assert "rates of y were not selected on a sweep" in parsed.words

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"seeds": (0,)}, "1 common sound seed, fewer than 2"),
            ({"variants": ("multi",)}, "'single'"),
            ({"variants": ("single",)}, "'multi'"),
            ({"diverged": ("single", "multi")}, "no sound curve"),
        ],
    )
    def test_nothing_to_judge_is_one_line(self, tmp_path, options, why):
        run = workdirs.write(tmp_path / "run", trajectories(factors=(), **options))
        judged = claims.verdicts([findings.find(run)])
        made = claims.section(judged)
        assert not made["told"] and not made["tables"]
        assert why in made["nothing"] and len(made["nothing"]) < 600
        assert not list(claim_pictures.pictures(judged, looks(["single", "multi"])))


def test_workdirs_are_called_by_what_differs():
    paths = [Path(f"/a/{name}/digits/selected") for name in ("x", "y")]
    assert [page._name(path, paths) for path in paths] == ["x", "y"]
    assert page._name(paths[0], paths[:1]) == "selected"
    assert page._name(paths[0], paths[:1] * 2) == str(paths[0])


def test_there_must_be_records(tmp_path):
    with pytest.raises(InputError, match="holds no records"):
        report.write(tmp_path)


@pytest.mark.usefixtures("bare")
def test_where_nothing_can_be_written(tmp_path):
    run = workdirs.write(tmp_path / "run", trajectories(factors=()))
    (run / "report").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        report.write(run)


def test_sentences_are_few(analysed, correlations):
    said = sentences.summary(analysed, correlations[0], correlations[1:3])
    assert 3 <= len(said) <= 6
    assert all(sentence.endswith(".") for sentence in said)


def test_the_page_goes_from_what_was_run_to_evidence(path):
    html = path.read_text()
    links = re.findall(r'href="#([^"]+)"', html)
    places = [html.index(f'id="{name}"') for name in links]
    assert len(places) > 6 and places == sorted(places)
    assert links.index("matched") < links.index("claims") < links.index("transfer")


@pytest.mark.usefixtures("bare")
def test_workdirs_stand_side_by_side(tmp_path):
    """With what differs in their configurations, also of other variants and tasks."""
    runs = [
        workdirs.write(
            tmp_path / name, trajectories(variants, factors=(), steps=(0, 10, 100)), **c
        )
        for name, variants, c in [
            ("slow", ("single", "multi"), {"batch_size": 8}),
            ("fast", ("single", "multi", "multi-mgda"), {"batch_size": 64}),
        ]
    ]
    found = [findings.find(run, name) for run, name in zip(runs, "ab", strict=True)]
    shown_as = looks(["single", "multi", "multi-mgda"])
    differing, scores = side_by_side.tables(found, shown_as)
    assert differing.head == ["field", "a", "b"]
    fields = {row[0].text: [cell.text for cell in row[1:]] for row in differing.rows}
    assert fields["batch_size"] == ["8", "64"] and "steps" not in fields
    shown = {(r[0].text, r[2].text): r[3:] for r in scores.rows if "acc" in r[1].text}
    assert len(shown) == 4  # no row of what one of them has
    values = found[1].at_best.query("task == 'a' & name == 'accuracy'")
    mean = 100 * values[values["variant"] == "multi"]["value"].mean()
    cell = shown["a", shown_as["multi"].label][1]
    assert float(cell.text) == pytest.approx(mean, abs=0.051) and "n = 2" in cell.note
    words = Page(report.write(runs, tmp_path / "out")).words
    assert "What differs" in words and "Test values side by side" in words
    assert not side_by_side.tables(found[:1], shown_as)
