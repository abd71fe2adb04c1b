"""Training somebody's tasks from Python: checked at the door, resumed, shown."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import mtl_jax
from mtl_jax.objectives.losses import GAUSSIAN
from mtl_jax.training.tasks import load_setting
from mtl_jax.types import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype(np.float32)
CLASS, NUMBER = (X[:, 0] > 0).astype(int), X @ [1.0, -1.0, 0.5, 0.0]


class Trunk(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(5)(x))


def three_unlike() -> Any:
    """A task of classes, one of numbers on fewer inputs, one of an own objective."""
    absolute = mtl_jax.Objective(
        example_loss=lambda outputs, y: jnp.abs(outputs - y),
        sample_targets=GAUSSIAN.sample_targets,
        scores={
            "error": mtl_jax.Score(
                lambda outputs, y: jnp.abs(outputs - y),
                lambda total, count: total / count,
                higher_is_better=False,
            )
        },
        is_scalar=True,
    )
    return {
        "sign": mtl_jax.Task(train=(X[:30], CLASS[:30]), test=(X[30:], CLASS[30:])),
        "sum": mtl_jax.Task(
            train=(X[:20, :2], NUMBER[:20]),
            test=(X[20:, :2], NUMBER[20:]),
            objective="gaussian",
        ),
        "robust": mtl_jax.Task(
            train=(X[:25], NUMBER[:25]), test=(X[25:], NUMBER[25:]), objective=absolute
        ),
    }


FAST: Any = {
    "variants": ("multi",),
    "seeds": (0,),
    "steps": 4,
    "batch_size": 10,
    "factors__names": (),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    setting = mtl_jax.setting(three_unlike(), Trunk())
    path = tmp_path_factory.mktemp("result") / "run"
    results = []

    def run():
        changes = {**FAST, "variants": ("single", "multi")}
        results.append(mtl_jax.train(setting, workdir=path, **changes))

    thread = threading.Thread(target=run)  # a notebook's, say
    thread.start()
    thread.join()
    return setting, results[0]


def test_records_table_and_figures(trained, capsys):
    _, result = trained
    df = result.records
    assert set(df["task"]) - {""} == {"sign", "sum", "robust"}
    assert {"accuracy", "mse", "error", "loss"} <= set(df["name"])
    assert (df[df["name"] == "error"]["direction"] == -1).all()
    assert "error" in str(result) and "robust" in str(result)
    assert "<pre" in result._repr_html_() and "robust" in result._repr_html_()
    assert result.report.name == "index.html"
    assert result.figure("learning").suffix == ".png"
    with pytest.raises(InputError, match="no figure 'lerning'.*mean 'learning'"):
        result.figure("lerning")
    assert capsys.readouterr() == ("", "")


def test_the_same_call_is_finished(trained):
    setting, result = trained
    said: list[str] = []
    again = mtl_jax.train(
        setting,
        workdir=result.workdir,
        say=said.append,
        **{**FAST, "variants": ("single", "multi")},
    )
    assert again.outcome.step == 4 and "is finished" in said[0]


def test_one_input_trains_as_if_unlabelled_examples_were_not_there(tmp_path):
    """A task of which half is unlabelled makes the losses of its other half."""
    half = np.where(np.arange(40) % 2, np.nan, NUMBER)
    tasks = {
        "a": mtl_jax.Task(train=CLASS, test=CLASS),
        "b": mtl_jax.Task(train=half, test=half, objective="gaussian"),
    }
    setting = mtl_jax.setting(tasks, Trunk(), inputs={"train": X, "test": X})
    changes = {**FAST, "batch_size": 40, "steps": 1}
    df = mtl_jax.train(setting, workdir=tmp_path / "run", **changes).records
    params, state = setting.init(jax.random.split(jax.random.key(0))[0], jnp.arange(2))
    start = df[(df["step"] == 0) & (df["task"] == "b") & (df["split"] == "test")]
    head = jax.tree.map(lambda leaf: leaf[1], params.heads)
    states = state._replace(heads=jax.tree.map(lambda leaf: leaf[1], state.heads))
    outputs = setting.predict(params._replace(heads=head), states, jnp.asarray(X))
    errors = (np.asarray(outputs)[::2, 0] - NUMBER[::2]) ** 2
    values = start.set_index("name")["value"]
    np.testing.assert_allclose(values["mse"], errors.mean(), rtol=1e-5)
    np.testing.assert_allclose(values["loss"], errors.mean() / 2, rtol=1e-5)


def test_an_optimizer_of_ones_own_is_that_by_name(tmp_path):
    setting = mtl_jax.setting(three_unlike(), Trunk())
    losses = []
    for name, optimizer in [("own", lambda rate: optax.sgd(rate)), ("name", "sgd")]:
        result = mtl_jax.train(
            setting, workdir=tmp_path / name, optimizer=optimizer, **FAST
        )
        df: Any = result.records
        losses.append(df[df["name"] == "loss"]["value"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ("multi-pcgard",)}, "did you mean 'multi-pcgrad'"),
        ({"stpes": 3}, "no field 'stpes' .*did you mean 'steps'"),
        ({"batch_size": 1000}, "batch_size 1000 is larger than"),
        ({"batch_size": "many"}, "batch_size"),
        ({"optimizer": "adan2"}, "optimizer 'adan2' is not one of"),
        ({"optimizer": optax.adam(1e-3)}, "the optimizer is to make an optax"),
        ({"learning_rates": 0.1}, r"learning_rates is 0.1; pass .*=\(0.1,\)"),
        ({"seeds": 3}, "seeds is 3; pass several"),
        ({"variants": "single"}, "variants is 'single'; pass several"),
        ({"setting": "digits"}, "setting is a str; pass what mtl_jax.setting"),
    ],
)
def test_what_train_refuses(tmp_path, changes, message):
    setting = mtl_jax.setting(three_unlike(), Trunk())
    arguments: Any = {"setting": setting, **FAST, **changes}
    with pytest.raises(InputError, match=message):
        mtl_jax.train(arguments.pop("setting"), workdir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "config.json").exists()


class TooDeep(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)[:, None]


@pytest.mark.parametrize(
    ("trunk", "changes", "message"),
    [
        (nn.Conv(3, (3, 3)), {}, "model cannot take inputs of shape .B, 4.*"),
        (TooDeep(), {}, "task 'sign': its objective makes no loss .*flatten it"),
        (lambda x: x, {}, "the trunk is .*; pass a linen module"),
        ((lambda *_: 0.0, lambda _, x: x.sum()), {}, "the trunk makes .* of 2 exam"),
        (Trunk(), {"compute_dtype": "half"}, "compute_dtype 'half' is not one of"),
        (Trunk(), {"augmentations": ("flip",)}, "augmentations are for images"),
        (Trunk(), {"head": lambda width: width}, "the trunk is 2; pass"),
        (
            Trunk(),
            {"head": lambda _: nn.Dense(1)},
            "head makes .'B', 1., .* needs 2 out",
        ),
    ],
)
def test_what_setting_refuses(trunk, changes, message):
    with pytest.raises(InputError, match=message):
        mtl_jax.setting(three_unlike(), trunk, **changes)


def test_factors_of_a_task_of_one_example(tmp_path):
    setting = mtl_jax.setting({"a": mtl_jax.Task((X[:1], CLASS[:1]))}, Trunk())
    with pytest.raises(InputError, match="at least 2 examples .* tasks has 1; leave"):
        arguments: Any = {**FAST, "batch_size": 1, "factors__names": ("conflict",)}
        mtl_jax.train(setting, workdir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "config.json").exists()


def test_labels_out_of_range():
    tasks = {"a": mtl_jax.Task(train=(X, CLASS), test=(X, CLASS * 5), outputs=2)}
    with pytest.raises(InputError, match=r"task 'a' of tasks \(test, 2 outputs\) hol"):
        mtl_jax.setting(tasks, Trunk())


def test_a_head_of_ones_own():
    setting = mtl_jax.setting(
        three_unlike(),
        Trunk(),
        head=lambda width: nn.Sequential([nn.Dense(7), nn.tanh, nn.Dense(width)]),
    )
    params, _ = setting.init(jax.random.key(0), jnp.arange(3))
    shapes = {leaf.shape for leaf in jax.tree.leaves(params.heads)}
    assert (3, 5, 7) in shapes and (3, 7, 2) in shapes


def test_import_path(tmp_path, monkeypatch):
    (tmp_path / "somebody.py").write_text(
        "import mtl_jax, numpy as np\nfrom flax import linen as nn\n"
        "def make():\n"
        "    pair = np.ones((4, 2)), [0, 1, 0, 1]\n"
        "    return mtl_jax.setting({'a': mtl_jax.Task(pair)}, nn.Dense(3))\n"
        "def nothing(): return 3\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_setting("somebody:make").tasks == ("a",)
    for path, message in [
        ("somebody:nothing", "makes a int; let it return mtl_jax.setting"),
        ("somebody:number", "is a int; name a function of no argument"),
        ("somebody:mkae", "cannot be imported .AttributeError"),
        ("nobody:make", "cannot be imported .ModuleNotFoundError"),
    ]:
        with pytest.raises(InputError, match=message):
            load_setting(path)


def test_a_split_that_is_not_there_is_said(tmp_path):
    made = mtl_jax.setting({"sign": three_unlike()["sign"]}, Trunk())
    asked = {**FAST, "variants": ("single",), "evaluate": ("probe", "validation")}
    with pytest.raises(InputError, match="evaluate names validation.*train, test; "):
        mtl_jax.train(made, workdir=tmp_path / "run", **asked)
