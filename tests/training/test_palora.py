"""One model that is trained once and shown at many preferences."""

from typing import Any

import jax
import numpy as np
import pytest

from configs import digits
from mtl_jax import analysis
from mtl_jax.storage import checkpoint
from mtl_jax.training import variants
from mtl_jax.training.compile import blank_states
from mtl_jax.training.resolve import resolve
from mtl_jax.training.step import data_pool, take, told
from mtl_jax.types import InputError
from tests import small

NAME = "multi-palora@annealing=2@preference=lattice.1@rays=3"
CORNERS = [
    f"multi-palora@annealing=2@preference={ray}@rays=3"
    for ray in ("0.0/0.0/1.0", "0.0/1.0/0.0", "1.0/0.0/0.0")
]
TASKS, SIZES = ("a", "b", "c"), (30, 20, 10)


def config(*names, **changes) -> Any:
    chosen: Any = digits.get_config()
    changes = {"model.name": "palora", "seeds": (0, 1), **changes}
    chosen.update_from_flattened_dict({"variants": names, **changes})
    return chosen


def test_all_preferences_are_one_run_of_a_seed():
    lattice, other = (
        "multi-palora@preference=lattice.2",
        "multi-palora@preference=1/2/1",
    )
    made: Any
    (made,) = variants.make_all(config(lattice, other), TASKS, SIZES)
    assert made.task_ids.shape == (2, 3) and not made.options
    assert made.name == "multi-palora"
    assert len(made.shown) == 7 and made.shown[-1].shares.tolist() == [0.25, 0.5, 0.25]
    for shown in made.shown:
        assert {label.variant for label in shown.labels} == {shown.name}
    names = variants.expand(config(lattice, other), TASKS)
    assert [shown.name for shown in made.shown] == list(names)
    # Options of training are other models, whose numbers programs know as any.
    both: Any = config("multi-palora@concentration=0.5", "multi-palora")
    first: Any
    second: Any
    first, second = variants.make_all(both, TASKS, SIZES)
    assert first.options["concentration"].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(second.shown[0].shares, 1 / 3)
    both.smto.palora.preference = (0.0, 1.0, 1.0)
    _, second = variants.make_all(both, TASKS, SIZES)
    assert second.shown[0].shares.tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("names", "changes", "words"),
    [
        (("multi-palora",), {"model.name": "mlp"}, "MLP asks for none; choose"),
        (("multi-palora:digits_0+digits_1",), {}, "leave the group digits_0.digits_1"),
        (("single-palora",), {}, "leave the group digits_0 out"),
        (("multi-palora@preference=1/1",), {}, "2 numbers, .* for 3 tasks"),
        (("multi-palora-ub",), {}, "does not weigh a Gramian"),
    ],
)
def test_what_cannot_work_is_refused(names, changes, words):
    with pytest.raises(InputError, match=words):
        resolve(config(*names, **changes))


def test_records_have_a_front_of_one_model(tmp_path):
    changes: Any = {
        "variants": ("multi", NAME),
        "seeds": (0,),
        "model.name": "palora",
        "model.palora.alpha": 30.0,
        "learning_rates": (0.03,),
        "factors.names": ("logit_norm",),
    }
    by_field = {name.replace(".", "__"): value for name, value in changes.items()}
    df: Any = small.run(tmp_path / "run", **by_field).records
    loss = df[(df["name"] == "loss") & (df["split"] == "test")]
    table = loss.pivot_table(index="variant", columns=["step", "task"], values="value")
    assert list(table.index) == ["multi", *CORNERS]
    start = table[0].to_numpy()
    np.testing.assert_array_equal(start, np.broadcast_to(start[0], start.shape))
    (front,) = analysis.fronts(df).itertuples()
    assert front.preferences == 3 and front.family == "multi-palora@annealing=2@rays=3"
    # A corner is best at its task, as it was told.
    end = table.loc[CORNERS[::-1], 12].to_numpy()
    assert (end.argmin(axis=0) == np.arange(3)).all()

    made = resolve(small.config(changes))
    like = [blank_states(made.setting, variant) for variant in made.variants]
    with checkpoint.open_manager(tmp_path / "run", 2) as saved:
        restored: Any = checkpoint.read(saved, 12, like, print)
    assert len(restored) == 2  # the model is there once
    norms = df[(df["name"] == "logit_norm") & (df["scope"] == "task")]
    for shown in made.variants[1].shown:
        states = told(restored[1], shown.shares)
        params, state = jax.tree.map(
            lambda leaf: leaf[0], (states.params, states.model_state)
        )
        for t, task in enumerate(made.setting.tasks):
            rows: Any = made.splits["test"][t][None]
            number: Any = np.array([t])
            batch = take(made.setting, data_pool(made.setting), rows, number)
            of_task = jax.tree.map(lambda leaf, t=t: leaf[t], (params.heads, state))
            heads, model_state = of_task
            outputs = made.setting.predict(
                params._replace(heads=heads), model_state, batch.x[0]
            )
            by_hand = made.setting.objective.example_loss(outputs, batch.y[0]).mean()
            recorded = table.loc[shown.name, (12, task)]
            np.testing.assert_allclose(recorded, by_hand, rtol=1e-4)
        of_ray = norms[(norms["variant"] == shown.name) & (norms["step"] == 12)]
        assert len(of_ray) == 3
    last = norms[norms["step"] == 12].groupby("variant")["value"].sum()
    assert last.nunique() == 4
