"""The settings of images, from official files to a report, and one through a stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from configs import celeba, cifar100, cityscapes
from mtl_jax import report
from mtl_jax.data import celeba as celeba_data
from mtl_jax.data import cifar100 as cifar100_data
from mtl_jax.data import cityscapes as cityscapes_data
from mtl_jax.training import loop
from mtl_jax.training.loop import Outcome, run
from mtl_jax.types import Config
from tests import small
from tests.data import test_celeba, test_cifar100, test_cityscapes

SHRUNK = {
    "steps": 4,
    "seeds": (0,),
    "variants": ("single", "multi-pcgrad"),
    "batch_size": 4,
    "eval_batch_size": 4,
    "probe_size": 8,
    "steps_per_dispatch": 2,
    "trajectory.dense": 0,
    "trajectory.count": 2,
    "checkpoint.every": 2,
    "augmentations": ("flip", "crop"),
    "factors.sharpness_and_covariance.batch_size": 4,
    "factors.sharpness_and_covariance.small_batch_size": 2,
    "factors.gradient_similarity.batches": 2,
    "factors.fisher_trace.batch_size": 4,
}
RESNET = {"model.resnet.widths": (4, 6), "model.resnet.blocks": (1, 1)}
DEEPLAB = {
    "model.deeplab.conv": "lax",  # fewer operations to compile
    "model.deeplab.widths": (2, 2, 4, 4),
    "model.deeplab.blocks": (1, 1, 1, 1),
    "model.deeplab.channels": 4,
    "model.deeplab.rates": (1, 2),
}
OTHERS = {"adaptive_sharpness_linf", "gradient_covariance", "mean_cosine"}
FEWER = {"factors.names": ("fisher_trace", "gradient_similarity")}
"""To compile: what depends on the kind of a task's labels, and on all of them."""
SIMILARITY = {"fisher_trace", "gradient_similarity"}


def of_cifar100(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, dict]:
    patch.setattr(cifar100_data, "COUNTS", test_cifar100.COUNTS)
    for split in ("train", "test"):
        examples = test_cifar100.examples(split)
        test_cifar100.write_binary(root / "cifar100", split, *examples)
    names = "sharpness_and_covariance", "conflict"  # those that the others leave out
    return cifar100.get_config(), {**RESNET, "factors.names": names}


def of_celeba(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, dict]:
    patch.setattr(celeba_data, "COUNTS", test_celeba.COUNTS)
    test_celeba.write(root)
    changes = {"data.attributes": ("Male", "Young", "Smiling"), "data.size": 16}
    return celeba.get_config(), {**RESNET, **FEWER, **changes}


def of_cityscapes(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, dict]:
    for name, value in (
        ("COUNTS", test_cityscapes.COUNTS),
        ("TRAIN", 8),
        ("FULL", test_cityscapes.FULL),
    ):
        patch.setattr(cityscapes_data, name, value)
    for split, n in test_cityscapes.COUNTS.items():
        for i in range(n):
            files = test_cityscapes.paths(root / "cityscapes", split, i)
            test_cityscapes.write(files, test_cityscapes.pixels(split, i))
    return cityscapes.get_config(), {**DEEPLAB, **FEWER, "data.size": (16, 32)}


SETTINGS = {
    "cifar100": (of_cifar100, {"accuracy"}, OTHERS),
    "celeba": (of_celeba, {"f1", "accuracy"}, SIMILARITY),
    "cityscapes": (
        of_cityscapes,
        {"mean_iou", "pixel_accuracy", "absolute_error", "relative_error"},
        SIMILARITY,
    ),
}


def prepared(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Shrink the config of a setting, on files that are made here."""
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    config, changes = SETTINGS[name][0](tmp_path / "data", monkeypatch)
    config.update_from_flattened_dict({**SHRUNK, **changes})
    config.data.dir = str(tmp_path / "data")
    return config


def trained(config: Config, path: Path) -> Outcome:
    return run(config, path, lambda _: None)


@pytest.mark.parametrize("name", SETTINGS)
def test_from_files_to_a_report(name, tmp_path, monkeypatch):
    config = prepared(name, tmp_path, monkeypatch)
    _, scores, factors = SETTINGS[name]
    with small.compiled_once(tmp_path / "xla"):
        assert trained(config, tmp_path / "run").step == config.steps
        if name == "celeba":
            with monkeypatch.context() as patch:
                patch.setattr(loop, "StopSignal", small.Stopped)
                assert trained(config, tmp_path / "stopped").step < config.steps
            assert trained(config, tmp_path / "stopped").step == config.steps
            assert_frame_equal(
                small.sorted_records(tmp_path / "stopped"),
                small.sorted_records(tmp_path / "run"),
            )
    df = small.sorted_records(tmp_path / "run")
    judged = df[df["split"].isin(["probe", "validation", "test"])]
    assert set(judged["name"]) >= scores | factors | {"loss"}
    # Of so few examples halves may disagree, and there is no debiased cosine.
    broken = df[~np.isfinite(df["value"]) & ~df["name"].str.startswith("debiased")]
    assert broken.empty, broken[
        ["variant", "step", "task", "name", "split"]
    ].to_string()
    assert set(df["variant"]) == {"single", "multi-pcgrad"}
    if name == "cityscapes":  # a task has its own scores and no other's
        of_task = judged[judged["name"].isin(scores)].groupby("task")["name"]
        assert of_task.unique().map(set).to_dict() == {
            "segmentation": {"mean_iou", "pixel_accuracy"},
            "depth": {"absolute_error", "relative_error"},
        }
    page = report.write(tmp_path / "run", tmp_path / "report").read_text()
    assert all(task in page for task in set(df["task"]) - {""})
