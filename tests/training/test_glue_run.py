"""GLUE from official files to a report, with heads and as text-to-text."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from configs import glue, glue_text
from mtl_jax import report
from mtl_jax.training import loop
from mtl_jax.training.loop import run
from mtl_jax.training.setting import make_setting
from mtl_jax.types import Config
from tests import glue_tree, small

CHANGES = {
    "steps": 4,
    "seeds": (0,),
    "variants": ("single", "multi-pcgrad"),
    "batch_size": 4,
    "grad_accumulation": 2,
    "eval_batch_size": 16,
    "probe_size": 8,
    "steps_per_dispatch": 2,
    "trajectory.dense": 0,
    "trajectory.count": 2,
    "checkpoint.every": 2,
    "data.length": 32,
    "model.roberta.vocabulary": 320,
    "model.roberta.width": 8,
    "model.roberta.layers": 1,
    "model.roberta.heads": 2,
    "model.roberta.hidden": 8,
    "factors.sharpness_and_covariance.batch_size": 4,
    "factors.sharpness_and_covariance.small_batch_size": 2,
    "factors.gradient_similarity.batches": 2,
    "factors.fisher_trace.batch_size": 4,
}
SCORES = {
    "cola": {"accuracy", "matthews"},
    "sst2": {"accuracy"},
    "mrpc": {"accuracy", "f1"},
    "qqp": {"accuracy", "f1"},
    "mnli": {"accuracy"},
    "qnli": {"accuracy"},
    "rte": {"accuracy"},
    "stsb": {"pearson", "spearman"},
}
FACTORS = {
    "glue": {"fisher_trace", "gradient_similarity"},
    "glue_text": {"mean_cosine"},
}
CONFIGS = {"glue": glue, "glue_text": glue_text}
FEWER = {
    "glue": {"factors.names": ("fisher_trace", "gradient_similarity")},
    "glue_text": {"factors.names": ("conflict",)},
}
"""To compile; `tests/training/test_factor_programs.py` has all of them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Official files of all eight tasks and a vocabulary."""
    folder = tmp_path_factory.mktemp("glue")
    glue_tree.write(folder)
    glue_tree.vocabulary(folder)
    with pytest.MonkeyPatch.context() as patch, small.compiled_once(folder / "xla"):
        patch.setenv("MTL_JAX_CACHE", str(folder / "cache"))
        yield folder


def config(name: str, folder: Path, **changes: Any) -> Config:
    found: Any = CONFIGS[name].get_config()
    found.update_from_flattened_dict({**CHANGES, **changes})
    found.data.dir = str(folder)
    found.data.vocabulary = str(folder / "vocabulary")
    return found


def trained(config: Config, path: Path) -> Any:
    run(config, path, lambda _: None)
    return small.sorted_records(path)


@pytest.fixture(scope="module")
def runs(folder):
    """Records of both settings, and their workdirs."""
    paths = {name: folder / "runs" / name for name in CONFIGS}
    return {
        name: (trained(config(name, folder, **FEWER[name]), path), path)
        for name, path in paths.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_task_has_its_scores_and_factors(name, runs):
    df, _ = runs[name]
    judged = df[df["split"].isin(["probe", "validation", "test"])]
    every = judged[judged["scope"] == ""].groupby("task")["name"].unique().map(set)
    for task, scores in SCORES.items():
        assert scores | {"loss"} <= every[task] <= scores | {"loss", "mse"}
    assert set(judged["name"]) >= FACTORS[name]
    # Of so few examples halves may disagree, and there is no debiased cosine.
    broken = df[~np.isfinite(df["value"]) & ~df["name"].str.startswith("debiased")]
    assert broken.empty, broken[["variant", "task", "name", "split"]].to_string()


def test_both_are_compared_in_one_report(runs, tmp_path):
    page = report.write([path for _, path in runs.values()], tmp_path / "report")
    text = page.read_text()
    assert all(name in text for name in (*CONFIGS, *SCORES))


def test_a_stop_changes_nothing(runs, folder, monkeypatch):
    """Dropout's keys, heads of several kinds, and accumulated gradients go on."""
    changes = {"variants": ("multi-pcgrad",), "factors.names": ()}
    path, own = folder / "stopped", config("glue", folder, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", small.Stopped)
        assert trained(own, path)["step"].max() < own.steps
    df, _ = runs["glue"]
    whole = df[(df["variant"] == "multi-pcgrad") & (df["scope"] == "")]
    assert_frame_equal(trained(own, path), whole.reset_index(drop=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_learns_what_gives_labels_away(name, folder, tmp_path):
    changes: Any = {
        "data.tasks": ("sst2", "stsb"),
        "variants": ("multi",),
        "batch_size": 32,
        "grad_accumulation": 1,
        "steps": 300,
        "steps_per_dispatch": 100,
        "learning_rates": (3e-3,),
        "factors.names": (),
    }
    df = trained(config(name, folder, **changes), tmp_path / "run")
    last = df[(df["step"] == 300) & (df["split"] == "test")].set_index("name")
    assert last.loc["accuracy", "value"] > 0.85
    if name == "glue":  # 60 examples do not teach 26 words for similarities
        assert last.loc["spearman", "value"] > 0.5


def test_dropout_of_a_task_is_the_same_in_any_company(folder):
    init = jax.jit(make_setting(config("glue", folder)).init)
    _, alone = init(jax.random.key(0), np.array([3]))
    _, every = init(jax.random.key(0), np.arange(len(SCORES)))
    own = jax.tree.map(lambda leaf: leaf[3:4], every)
    jax.tree.map(np.testing.assert_array_equal, alone, own)
    keys = np.asarray(every.trunk["dropout"]["key"])
    assert len(np.unique(keys, axis=0)) == len(SCORES)
