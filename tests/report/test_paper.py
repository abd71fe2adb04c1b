"""The paper's frames against a recomputation by hand, from the Parquet files alone."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_jax.analysis import paper
from mtl_jax.analysis.aggregates import aggregates
from mtl_jax.report import findings, page
from mtl_jax.report import paper as report_paper
from mtl_jax.report.paper import experiments, folder
from mtl_jax.storage import records
from mtl_jax.types import InputError
from tests import paper_runs

T_95 = {1: 12.706204736432102, 2: 4.302652729911275}
"""Two-sided 95 % quantiles of Student's t, from a printed table."""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("paper") / "run"
    return paper_runs.write(path, paper_runs.rows())


@pytest.fixture(scope="module")
def df(workdir):
    return records.read(workdir)


@pytest.fixture(scope="module")
def plain(workdir):
    """Read the files by pandas, of epochs alone: 20, 39, ... updates."""
    files = sorted((workdir / "records").glob("*.parquet"))
    table: Any = pd.concat([pd.read_parquet(file) for file in files])
    at = [round(2500 / 128 * epoch) for epoch in range(1, 26)]
    table = table[table["step"].isin(at) & (table["task"] == "a")].sort_values("step")
    keys = ["variant", "seed", "split", "name", "scope"]
    return {key: rows["value"].to_numpy() for key, rows in table.groupby(keys)}


def series(plain, variant, seed, split, name, scope=""):
    values = plain[variant, seed, split, name, scope]
    assert len(values) == 25
    return values


def by_hand(plain, variant, seed):
    """Recompute every aggregate of a run."""

    def of(*what):
        return series(plain, variant, seed, *what)

    order = sorted(
        range(25),
        key=lambda i: (
            -of("validation", "accuracy")[i],
            of("validation", "loss")[i],
            i,
        ),
    )
    made = {"score": 100 * sum(of("test", "accuracy")[i] for i in order[:10]) / 10}
    made["sharpness"] = sum(of("probe", "adaptive_sharpness_linf", "task")[5:]) / 20
    made["covariance"] = sum(of("probe", "gradient_covariance", "task")[5:]) / 20
    made["fisher"] = sum(sorted(of("probe", "fisher_trace", "task"))[5:]) / 20
    made["minimum_loss"] = min(of("train", "loss"))
    if variant != "single":
        made["similarity"] = sum(of("probe", "gradient_similarity", "shared")) / 25
    return made


def sides(plain, variant, name):
    return np.array([by_hand(plain, variant, seed)[name] for seed in (0, 1, 2)])


def apart(st, mt):
    sd = [np.sqrt(sum((v - v.mean()) ** 2) / 2) for v in (st, mt)]
    return max(st.mean() - 2 * sd[0], mt.mean() - 2 * sd[1]) > min(
        st.mean() + 2 * sd[0], mt.mean() + 2 * sd[1]
    )


def test_aggregates(df, plain):
    table = aggregates(df)
    assert set(table[table["target"] != ""]["task"]) == {"a"}
    table = table[table["task"] == "a"]
    for (variant, seed), rows in table.groupby(["variant", "seed"]):
        expected = by_hand(plain, variant, seed)
        shown = rows.set_index("aggregate")["value"].to_dict()
        assert shown == pytest.approx(expected, rel=1e-12)
        points = rows.set_index("aggregate")["points"].drop("similarity", errors=
                                                            "ignore")  # fmt: skip
        assert points.to_dict() == {"score": 10, "sharpness": 20, "covariance": 20,
                                    "fisher": 20, "minimum_loss": 1}  # fmt: skip
    assert len(table) == 3 * (5 + 3 * 6)


def test_table_1(df, plain):
    table, shades = paper.table_1(df), paper.shades(df)
    assert list(table.columns) == [
        "setting", "target", "group", "variant", "transfer", "transfer_low",
        "transfer_high", "sharpness", "covariance", "fisher", "significant",
    ]  # fmt: skip
    assert table["variant"].tolist() == ["multi:a/b", "multi:a/c", "multi-pcgrad:a/b"]
    for (_, row), (_, shade) in zip(table.iterrows(), shades.iterrows(), strict=True):
        assert (row["setting"], row["target"]) == ("fashion_mtl", "a")
        assert row["group"] == row["variant"].partition(":")[2]
        st, mt = (sides(plain, v, "score") for v in ("single", row["variant"]))
        error = np.sqrt(sum((mt - st - (mt - st).mean()) ** 2) / 2 / 3)
        middle = (mt - st).mean()
        expected = [middle, middle - T_95[2] * error, middle + T_95[2] * error]
        columns = ["transfer", "transfer_low", "transfer_high"]
        np.testing.assert_allclose(row[columns].astype(float), expected, rtol=1e-9)
        assert row["significant"] == apart(st, mt)
        better = "positive" if middle > 0 else "negative"
        assert shade["transfer"] == (better if apart(st, mt) else "insignificant")
        for factor in ("sharpness", "covariance", "fisher"):
            st, mt = (sides(plain, v, factor) for v in ("single", row["variant"]))
            assert row[factor] == pytest.approx(mt.mean() - st.mean(), rel=1e-9)
            better = "positive" if mt.mean() < st.mean() else "negative"
            assert shade[factor] == (better if apart(st, mt) else "insignificant")
    assert table["significant"].tolist() == [True, True, True]
    assert table["transfer"].round().tolist() == [2, -3, 2]


def test_figure_1(df, plain):
    table = paper.figure_1(df)
    assert set(table["target"]) == {"a"} and set(table["loss_split"]) == {"train"}
    assert table["variant"].drop_duplicates().tolist() == list(paper_runs.VARIANTS)
    for (variant, seed), rows in table.groupby(["variant", "seed"]):
        seeds = (0, 1, 2) if seed == paper.MEAN else (seed,)
        losses = [series(plain, variant, s, "train", "loss") for s in seeds]
        scores = [series(plain, variant, s, "test", "accuracy") for s in seeds]
        count = len(seeds)
        loss = np.exp(sum(map(np.log, losses)) / count)
        np.testing.assert_allclose(rows["loss"], loss, rtol=1e-12)
        np.testing.assert_allclose(rows["score"], 100 * sum(scores) / count, rtol=1e-12)
        assert set(rows["seeds"]) == {count} and set(rows["unit"]) == {"%"}
        np.testing.assert_allclose(rows["epoch"], range(1, 26), atol=0.03)


def test_a_mean_is_of_all_seeds_or_not_there(df):
    short = df[(df["seed"] != 2) | (df["step"] <= 200)]  # ten epochs of seed 2
    table = paper.figure_1(short)
    means = table[table["seed"] == paper.MEAN]
    assert set(means["seeds"]) == {3} and means["epoch"].max() < 10.5
    assert table["epoch"].max() > 24


def test_gaps_at_the_same_training_loss(df):
    """Planted: 2 points up with b, 3 down with c, below a training loss of 1/3."""
    table = paper.gaps(df)
    assert set(table["target"]) == {"a"} and set(table["unit"]) == {"%"}
    late = table[table["statistic"] == "late"].set_index("variant")
    assert late["value"].to_dict() == pytest.approx(
        {v: 100 * gain for v, gain in paper_runs.GAIN.items()}, abs=0.5
    )
    text = sentences([df], "figure_1")
    value = signed(late.loc["multi:a/c", "value"], 2)
    assert f"test accuracy at the same training loss: {value} [" in text


def test_figure_2_is_of_significant_transfer(df):
    table = paper.figure_2(df)
    pd.testing.assert_frame_equal(table, paper.figure_1(df))
    gain = {"multi:a/b": 0.02, "multi:a/c": 0.0, "multi-pcgrad:a/b": 0.0}
    rows = paper_runs.rows(gain=gain, noise=0.002)
    some = paper.figure_2(pd.DataFrame(rows))
    assert set(some["variant"]) == {"single", "multi:a/b"}
    rows = paper_runs.rows(gain={}, noise=0.002)
    assert not len(paper.figure_2(pd.DataFrame(rows)))


def test_figure_3(df, plain):
    table = paper.figure_3(df)
    names = {"sharpness": "adaptive_sharpness_linf", "fisher": "fisher_trace"}
    names["covariance"] = "gradient_covariance"
    assert set(table["factor"]) == set(names)
    keys = ["factor", "variant", "seed"]
    for (factor, variant, seed), rows in table.groupby(keys):
        seeds = (0, 1, 2) if seed == paper.MEAN else (seed,)
        values = [series(plain, variant, s, "probe", names[factor], "task")
                  for s in seeds]  # fmt: skip
        np.testing.assert_allclose(rows["value"], sum(values) / len(seeds), rtol=1e-12)
        assert set(rows["name"]) == {names[factor]}
    assert len(table) == 3 * 4 * 4 * 25


def test_figure_4(df, plain):
    table = paper.figure_4(df)
    assert table["factor"].tolist() == [
        "minimum_loss", "sharpness", "covariance", "fisher",
    ]  # fmt: skip
    for _, row in table.iterrows():
        assert (row["variant"], row["baseline"]) == ("multi-pcgrad:a/b", "multi:a/b")
        changes = []
        for name in ("score", row["factor"]):
            st, mt = (sides(plain, row[v], name) for v in ("baseline", "variant"))
            changes.append(100 * (mt.mean() / st.mean() - 1))
        shown = row[["score_change", "factor_change"]].astype(float)
        np.testing.assert_allclose(shown, changes, rtol=1e-8)
        words = [
            "better" if good > 0 else "worse" for good in (changes[0], -changes[1])
        ]
        assert row["quadrant"] == ", ".join(words)
        st, mt = (sides(plain, row[v], "score") for v in ("baseline", "variant"))
        assert row["significant"] == apart(st, mt)


def test_figures_5_and_6(df, plain):
    table = paper.figures_5_6(df)
    assert set(table["auxiliaries"]) == {1} and set(table["name"]) == {"accuracy"}
    assert table["variant"].nunique() == 3
    for _, row in table.iterrows():
        for name in ("similarity", "sharpness", "covariance", "fisher", "score"):
            values = sides(plain, row["variant"], name)
            if row["seed"] == paper.MEAN:
                sd = np.sqrt(sum((values - values.mean()) ** 2) / 2)
                assert row[f"{name}_sd"] == pytest.approx(sd, rel=1e-9)
                assert row[name] == pytest.approx(values.mean(), rel=1e-12)
            else:
                assert row[name] == pytest.approx(values[int(row["seed"])], rel=1e-12)
                assert np.isnan(row[f"{name}_sd"])


def test_temperature():
    cells = {(0.01, 128): {"multi:a/b": 0.02}, (0.1, 64): {"multi:a/b": -0.01}}
    variants = {v: paper_runs.VARIANTS[v] for v in ("single", "multi:a/b")}
    rows = [
        row
        for cell, gain in cells.items()
        for row in paper_runs.rows(variants, gain=gain, cell=cell)
        if row.split != "test"
    ]
    table = paper.temperature(pd.DataFrame(rows))
    assert set(table["split"]) == {"validation"}
    table = table[table["target"] == "a"].set_index(["variant", "temperature"])
    frame: Any = pd.DataFrame(rows)
    frame = frame[(frame["step"] > 5) & (frame["task"] == "a")]
    frame = frame[(frame["name"] == "accuracy") & (frame["split"] == "validation")]

    def mean(variant, rate):
        of = frame[frame["variant"] == variant]
        of = of[of["learning_rate"] == rate]
        best = [sorted(g["value"])[-10:] for _, g in of.groupby("seed")]
        return 100 * np.mean(best)

    for rate, size in cells:
        row = table.loc["multi:a/b", rate / size]
        st, mt = mean("single", rate), mean("multi:a/b", rate)
        best = max(mean("single", r) for r, _ in cells)
        columns = ["st", "mt", "transfer", "best_st", "transfer_to_best"]
        expected = [st, mt, mt - st, best, mt - best]
        np.testing.assert_allclose(row[columns].astype(float), expected, rtol=1e-9)
        assert row["transfer_low"] < row["transfer"] < row["transfer_high"]
        assert np.isnan(table.loc["single", rate / size]["transfer"])


def test_numbers_of_the_page(df, plain):
    """What Table 1 shows is what was recomputed, rounded."""
    (section,) = make_sections([df], "table_1")
    (table,) = section.tables
    for row, variant in zip(table.rows, list(paper_runs.VARIANTS)[1:], strict=True):
        st, mt = (sides(plain, v, "score") for v in ("single", variant))
        assert row[2].text == signed((mt - st).mean(), 2)
        error = T_95[2] * np.std(mt - st, ddof=1) / np.sqrt(3)
        ends = [signed((mt - st).mean() + e, 2).lstrip("+") for e in (-error, error)]
        assert f"[{ends[0]}, {ends[1]}]" in row[2].note
        for cell, (factor, digits) in zip(
            row[3:6],
            {"sharpness": 3, "covariance": 1, "fisher": 2}.items(),
            strict=True,
        ):
            st, mt = (sides(plain, v, factor) for v in ("single", variant))
            assert float(cell.text.replace("−", "-")) == pytest.approx(
                mt.mean() - st.mean(), abs=0.6 * 10.0**-digits
            )


def signed(value, digits):
    return f"{value:+.{digits}f}".replace("-", "−")


def make_sections(settings, *names):
    chosen = experiments.studied(settings, settings)
    return [experiments.EXPERIMENTS[name](chosen) for name in names]


def sentences(settings, name):
    (section,) = make_sections(settings, name)
    return " ".join(section.sentences)


def renamed(rows, **names):
    """Give tasks other names."""
    frame: Any = pd.DataFrame(rows)
    for old, new in names.items():
        frame["task"] = frame["task"].replace(old, new)
        frame["target"] = frame["target"].replace(old, new)
    for column in ("variant", "group"):
        for old, new in (("a/b", "fashion_1/fashion_2"),
                         ("a/c", "fashion_1/noisy_fashion")):  # fmt: skip
            frame[column] = frame[column].str.replace(old, new, regex=False)
    return frame


def test_what_agrees_with_figure_1_is_said():
    text = sentences([renamed(paper_runs.rows(), a="fashion_1")], "figure_1")
    assert text.count("agrees") == 3 and "does not" not in text
    turned = {"multi:a/b": -0.04, "multi:a/c": 0.03, "multi-pcgrad:a/b": 0.0}
    frame = renamed(paper_runs.rows(gain=turned, noise=0.002), a="fashion_1")
    text = sentences([frame], "figure_1")
    assert text.count("does not agree") == 2 and text.count("not decided here") == 1


def test_the_papers_numbers_stand_beside_ours():
    variants = {"single": ("", ""), "multi": ("", "")}
    rows = paper_runs.rows(variants, setting="cifar100", gain={"multi": 0.03})
    frame = renamed(rows, a="fish", b="fruit_and_vegetables")
    (section,) = make_sections([frame], "table_1")
    notes = [[cell.note for cell in row] for row in section.tables[0].rows]
    assert "paper +3.49" in notes[0][2] and "paper −8.81" in notes[1][2]
    assert "paper +0.170" in notes[1][3] and "paper +790.0" in notes[1][4]
    text = " ".join(section.sentences)
    assert "of the paper's sign here in 1, of the other in 1" in text
    theirs = section.frames["table_1_paper"].set_index("target")
    assert theirs.loc["fish", "paper_covariance"] == 10.8


def test_relations_over_auxiliary_sets():
    sets = {f"multi:a/{k}.{i}": ("a/" + "+".join("bcdefghij"[:k]), "a")
            for k in (1, 4, 9) for i in (1, 2, 3)}  # fmt: skip
    near = {name: 0.8 - 0.05 * place for place, name in enumerate(sets)}
    variants = {"single": ("", ""), **sets}
    rows = paper_runs.rows(variants, epochs=5, gain={}, similarity=near)
    (section,) = make_sections([pd.DataFrame(rows)], "figures_5_6")
    table = section.frames["figures_5_6_correlations"].set_index("measured")
    # Factors fall by a tenth from variant to variant, as similarity does.
    assert (table.loc[["sharpness", "covariance", "fisher"], "rho"] > 0.9).all()
    assert abs(table.loc["score", "rho"]) < 0.9 and set(table["sets"]) == {9}
    assert "0 of 3 factors rise clearly" in " ".join(section.sentences)
    assert sorted(set(section.frames["figures_5_6"]["auxiliaries"])) == [1, 4, 9]


@pytest.fixture
def bare(monkeypatch):
    """Leave away what comes after the paper's experiments."""
    monkeypatch.setattr(page, "pictures", lambda *_: [])
    monkeypatch.setattr(page.claim_pictures, "pictures", lambda *_: [])


@pytest.mark.usefixtures("bare")
def test_the_folder_of_all_experiments(tmp_path):
    variants = {"single": ("", ""), "multi:a/b": ("a/b", "a")}
    paths = [
        paper_runs.write(tmp_path / name, paper_runs.rows(variants, epochs=4))
        for name in ("adam", "momentum")
    ]
    names = tuple(experiments.EXPERIMENTS)
    path = report_paper.write(paths, names, tmp_path / "out", figures=("svg",))
    assert path == tmp_path / "out" / "report" / "index.html"
    drawn = {file.stem for file in path.parent.glob("*.svg")}
    assert drawn == {"figure-1", "figure-3", "figures-5-6", "temperature"}
    text = path.read_text()
    places = [text.index(f'<section id="{name}">') for name in names]
    assert places == sorted(places) and places[-1] < text.index('id="claims"')
    assert "no multi-task optimizer was trained beside the sum" in text
    assert text.count('id="table-table_1-table-1"') <= 1  # not what figure 1 showed
    files = {file.stem for file in (tmp_path / "out/tables").iterdir()}
    assert {"table_1", "figure_1", "figure_2", "figure_3", "figure_4", "deltas",
            "figures_5_6", "temperature"} <= files  # fmt: skip
    table = pd.read_csv(tmp_path / "out/tables/table_1.csv")
    assert list(table.columns) == list(paper.TABLE)
    settings = ["fashion_mtl (adam)", "fashion_mtl (momentum)"]
    assert table["setting"].tolist() == settings
    assert f"{table['transfer'][0]:+.2f}".replace("-", "−") in text


def test_the_sweep_beside_a_choice_is_what_was_tried(tmp_path):
    variants = {"single": ("", ""), "multi": ("", "")}
    cells = [("adam", (0.1, 64)), ("adam", (0.01, 64)), ("sgd", (0.01, 64))]
    for place, (optimizer, cell) in enumerate(cells):
        rows = paper_runs.rows(variants, epochs=2, cell=cell)
        path = tmp_path / "sweep" / str(place)
        paper_runs.write(path, rows, **{"optimizer.name": optimizer})
    options = {"optimizer.name": "adam"}
    chosen = paper_runs.write(tmp_path / "selected", rows, **options)
    found = findings.find(chosen)
    (section,) = folder.make([found], ["temperature"])
    temperatures = set(section.frames["temperature"]["temperature"])
    assert temperatures == {0.1 / 64, 0.01 / 64}


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "no experiment of the paper is named"), (("figure_7",), "'figure_7' is not")],
)
def test_unknown_experiments(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        report_paper.write([tmp_path], names, tmp_path)
