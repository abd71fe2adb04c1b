"""Merging of a run's models: what joins the records, against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mtl_jax import merging
from mtl_jax.models.trunk import Trunk
from mtl_jax.storage import records
from mtl_jax.studies.merge import SCALES, merge
from mtl_jax.studies.mergers import MERGERS
from mtl_jax.studies.statistics import averaged, refreshed
from mtl_jax.training.resolve import resolve
from mtl_jax.training.setting import from_dataset
from mtl_jax.training.step import data_pool
from mtl_jax.types import InputError, ModelState, Params
from tests import small

TASKS = ("digits_0", "digits_1", "digits_2")
CHANGES = {"checkpoint.keep_points": True, "seeds": (0,)}


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Two cheap ways and one that learns, at all points of a small run."""
    folder = tmp_path_factory.mktemp("merge")
    with small.compiled_once(folder / "cache"):
        run = small.run(
            folder / "run", **{k.replace(".", "__"): v for k, v in CHANGES.items()}
        )
        before = records.read(run.path)
        said = []
        merge(run.path, "average,ties,tint", steps=3, batch_size=4, say=said.append)
    return run.path, before, records.read(run.path), said


def value(df, variant, name, step, task="digits_1", split="probe"):
    rows = df[(df["variant"] == variant) & (df["name"] == name) & (df["step"] == step)]
    (row,) = rows[(rows["task"] == task) & (rows["split"] == split)]["value"]
    return row


def test_what_was_there_stays_and_all_points_are_merged(merged):
    _, before, after, said = merged
    old = after.merge(before, how="inner")
    assert len(old) == len(before)
    new = after[after["variant"].str.startswith("merged-")]
    assert set(new["variant"]) == {"merged-average", "merged-ties", "merged-tint"}
    assert set(new["step"]) == set(before["step"]) and len(said) == 6
    of_loss = new[(new["name"] == "loss") & (new["split"] == "test")]
    assert len(of_loss) == 3 * 5 * len(TASKS) and np.isfinite(of_loss["value"]).all()


def test_at_the_start_all_models_are_one(merged):
    _, _, df, _ = merged
    for task in TASKS:
        start = value(df, "single", "loss", 0, task)
        assert value(df, "merged-average", "loss", 0, task) == pytest.approx(
            start, rel=1e-6
        )
        assert value(df, "single", "task_vector_length", 0, task) == 0
        assert value(df, "merged-average", "barrier/multi", 0, task) <= 1e-6


def parts(path):
    """Setting, start, single-task and multi-task parameters of the last checkpoint."""
    made = resolve(small.config(CHANGES))
    stored, _ = small.checkpoint_of(path)
    single, multi = (Params(**state["params"]) for state in stored)
    start, _ = made.setting.init(jax.random.split(jax.random.key(0))[0], jnp.arange(3))
    return made, start.shared, single, multi


def test_values_are_those_of_the_merged_model(merged):
    path, _, df, _ = merged
    made, start, single, multi = parts(path)
    setting, step = made.setting, df["step"].max()
    trunk = jax.tree.map(lambda leaf: leaf.mean(axis=0), single.shared)
    state, rows = ModelState({}, {}), made.splits["test"][1]
    head = jax.tree.map(lambda leaf: leaf[1, 0], single.heads)
    x, y = setting.data.x[rows], setting.data.y[rows]
    outputs = setting.predict(Params(trunk, head), state, jnp.asarray(x))
    loss = -jax.nn.log_softmax(outputs)[np.arange(len(y)), y.reshape(len(y))].mean()
    seen = value(df, "merged-average", "loss", step, split="test")
    assert seen == pytest.approx(float(loss), rel=1e-5)

    flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            for tree in (start, multi.shared, *[
                jax.tree.map(lambda leaf, t=t: leaf[t], single.shared) for t in range(3)
            ])]  # fmt: skip
    to_multi, *vectors = [end - flat[0] for end in flat[1:]]
    length = np.linalg.norm(vectors[1])
    assert value(df, "single", "task_vector_length", step) == pytest.approx(
        length, rel=1e-4
    )
    cosine = vectors[1] @ vectors[2] / length / np.linalg.norm(vectors[2])
    name = "task_vector_cosine/digits_2"
    assert value(df, "single", name, step) == pytest.approx(cosine, abs=1e-4)
    cosine = vectors[1] @ to_multi / length / np.linalg.norm(to_multi)
    name = "task_vector_cosine/multi"
    assert value(df, "single", name, step) == pytest.approx(cosine, abs=1e-4)


def test_the_scale_of_a_seed_is_the_best_in_validation(merged):
    path, _, df, _ = merged
    made, start, single, _ = parts(path)
    setting, step = made.setting, df["step"].max()
    scale = value(df, "merged-ties", "merging_coefficient", step)
    vectors = merging.task_vectors(start, single.shared)
    losses = []
    for tried in SCALES:
        trunk = merging.ties(start, vectors, scale=tried)
        of_tasks = []
        for task in range(3):
            head = jax.tree.map(lambda leaf, t=task: leaf[t, 0], single.heads)
            rows = made.splits["validation"][task]
            x, y = setting.data.x[rows], setting.data.y[rows].reshape(len(rows))
            outputs = setting.predict(
                Params(trunk, head), ModelState({}, {}), jnp.asarray(x)
            )
            of_tasks.append(-jax.nn.log_softmax(outputs)[np.arange(len(y)), y].mean())
        losses.append(np.mean(of_tasks))
    assert scale == pytest.approx(SCALES[int(np.argmin(losses))])


def test_merging_again_replaces_and_training_goes_on(merged):
    path, _, before, _ = merged
    merge(path, ["average"], steps=3, batch_size=4, say=lambda _: None)
    again = records.read(path)
    assert len(again) == len(before)
    small.run(path, **{k.replace(".", "__"): v for k, v in CHANGES.items()})
    assert len(records.read(path)) == len(before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": "avrage"}, "'avrage' is not one of: average"),
        ({"steps": 0}, "steps is 0; it must be a whole number, at least 1"),
        ({"unlabelled": "train"}, "'train' is not one of: validation, test"),
        ({"changes": {"batch_size": 4}}, "batch_size"),
    ],
)
def test_choices_out_of_range(merged, options, words):
    with pytest.raises(InputError, match=words):
        merge(merged[0], **options)


def test_a_run_without_single_task_runs(tmp_path):
    run = small.run(tmp_path, variants=("multi",), seeds=(0,), steps=1)
    with pytest.raises(InputError, match="no variant single"):
        merge(run.path)


class Normed(Trunk):
    """A trunk of nothing but batch statistics."""

    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(not train, momentum=0.9, use_bias=False, use_scale=False)(
            x.reshape(len(x), -1)
        )


def test_batch_statistics_are_those_of_the_data():
    made = resolve(small.config({}))
    setting = from_dataset("normed", made.setting.data, Normed(parent=None))
    rows = jnp.stack([made.splits["train"][0][:64]] * 150)
    old = setting.init(jax.random.key(0), jnp.arange(3))[1].trunk
    data = jax.device_put(data_pool(setting))
    assert refreshed(setting, {}, {}, data, rows) == {}
    new = jax.jit(lambda: refreshed(setting, {}, averaged(old), data, rows))()
    (stats,) = new["batch_stats"].values()
    x = np.asarray(setting.data.x)[rows[0]].reshape(64, -1)
    x = x / 255 if x.dtype == np.uint8 else x
    np.testing.assert_allclose(stats["mean"], x.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(stats["var"], x.var(axis=0), atol=1e-4)


def test_every_way_is_named_in_the_docs():
    text = (small.ROOT / "docs" / "merging.md").read_text()
    assert all(f"`{name}`" in text for name in MERGERS)
