"""Variants: what names mean, and which runs they hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from mtl_jax import smto
from mtl_jax.training import variants
from mtl_jax.types import InputError, Params


def config(**changes: Any) -> Any:
    found: Any = default.get_config()
    found.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return found


@pytest.mark.parametrize(
    ("listed", "chosen", "expected"),
    [
        (("single", "multi"), "", ("single", "multi")),
        (("single",), "mgda", ("single", "multi-mgda")),
        (("multi-mgda",), "mgda", ("multi-mgda",)),
        (("multi-mgda-ub",), "mgda", ("multi-mgda-ub", "multi-mgda")),
        # As the flag --config.variants=single,multi-mgda comes out of its parser.
        (("single,multi-mgda",), "", ("single", "multi-mgda")),
        (("single, multi",), "rlw", ("single", "multi", "multi-rlw")),
    ],
)
def test_names(listed, chosen, expected):
    assert variants.names(config(variants=listed, smto__name=chosen)) == expected


THREE = ("a", "b", "c")
SIZES = (200, 256, 100)  # an epoch is two steps


def test_single_has_a_run_per_seed_rate_and_task():
    found = variants.make(
        "single", config(seeds=(3, 4), learning_rates=(0.1, 0.2)), THREE, SIZES
    )
    assert found.task_ids.tolist() == [[0], [1], [2]] * 4
    assert found.seeds.tolist() == [3] * 6 + [4] * 6
    np.testing.assert_array_equal(found.learning_rates, ([0.1] * 3 + [0.2] * 3) * 2)
    assert found.smto == "none"


def test_multi_has_a_run_per_seed_and_rate():
    found = variants.make(
        "multi", config(seeds=(3, 4), learning_rates=(0.1, 0.2)), THREE, SIZES
    )
    assert found.task_ids.tolist() == [[0, 1, 2]] * 4
    assert found.smto == "sum"


def test_single_runs_may_be_named_one_by_one():
    runs = (("c", 0.1), ("a", 0.3), ("a", 0.1))
    found = variants.make(
        "single", config(seeds=(3, 4), single_runs=runs), THREE, SIZES
    )
    assert found.task_ids.tolist() == [[2], [0], [0]] * 2
    np.testing.assert_array_equal(found.learning_rates, [0.1, 0.3, 0.1] * 2)
    assert found.seeds.tolist() == [3] * 3 + [4] * 3
    multi = variants.make("multi", config(seeds=(3,), single_runs=runs), THREE, SIZES)
    assert multi.task_ids.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("runs", "match"),
    [
        ((3,), "single_runs holds 3; name pairs of a task"),
        ((("d", 0.1),), r"single_runs holds \('d', 0.1\); name pairs of a task \(a, b"),
        ((("a", 0.1), ("a", 0.1)), "each once"),
        ((("a",),), "name pairs"),
        ((("a", -0.1),), "the learning rate of 'a' is -0.1; it must be a positive"),
    ],
)
def test_single_runs_that_make_no_sense(runs, match):
    with pytest.raises(InputError, match=match):
        variants.make("single", config(single_runs=runs), THREE, SIZES)


ROWS = np.array([(1.0, 0.0), (-1.0, 1.0)], np.float32)
TWO = Params(ROWS, np.ones((2, 3), np.float32))
LOSSES: Any = np.array([2.0, 8.0], np.float32)


def combined(name, **changes):
    """Direction and heads' gradients of a variant for two given gradients."""
    strategy = variants.make(
        name, config(**changes), THREE[:2], SIZES[:2]
    ).method.strategy
    state = strategy.init(Params(jnp.zeros(2), jnp.zeros((2, 3))), 2)
    found, after = strategy.combine(LOSSES, TWO, state, jax.random.key(0))
    return found, after


@pytest.mark.parametrize(
    ("name", "head_grad", "weighted"),
    [
        ("multi-si", "default", True),
        ("multi-mgda", "default", False),
        ("multi-mgda", "weighted", True),
        ("multi-si", "unweighted", False),
    ],
)
def test_heads_are_weighted_as_asked(name, head_grad, weighted):
    found, state = combined(name, smto__head_grad=head_grad)
    factors = state.weights if weighted else np.ones(2)
    np.testing.assert_allclose(found.heads, factors[:, None] * TWO.heads, rtol=1e-6)
    assert not np.allclose(state.weights, 1)


@pytest.mark.parametrize(("task_map", "one"), [("vmap", True), ("sequential", False)])
def test_loss_weightings_take_one_backward_pass_where_it_pays(task_map, one):
    _, state = combined("multi-rlw", task_map=task_map)
    # Who makes the tasks' gradients knows their cosines with the direction.
    assert np.isnan(state.cosines).all() == one


def test_options_reach_the_method():
    _, state = combined("multi-si")
    np.testing.assert_allclose(state.weights, [0.5, 0.125], rtol=1e-6)
    _, state = combined("multi-mgda", smto__reduction="mean")
    np.testing.assert_allclose(state.weights, [0.6, 0.4], rtol=1e-4)
    # w is the first task's alone: .5 + c |g0| / |g1| of the first, .5 of the second.
    changes: Any = {"smto__reduction": "mean", "smto__cagrad__rescale": 0}
    _, state = combined("multi-cagrad", smto__cagrad__c=0.5, **changes)
    np.testing.assert_allclose(state.weights, [0.75, 0.5], rtol=1e-3)


def test_methods_inside_methods_take_their_own_options():
    changes: Any = {"smto__reduction": "mean", "smto__cagrad__rescale": 0}
    changes |= {"smto__cagrad__c": 0.5, "smto__cr_mogm__inner": "cagrad"}
    _, state = combined("multi-cr_mogm", **changes)
    np.testing.assert_allclose(state.weights, [0.75, 0.5], rtol=1e-3)
    _, state = combined("multi-reweighted", smto__reweighted__losses="dwa")
    assert np.isfinite(state.weights).all()


def test_epochs_are_those_of_the_data():
    strategy = variants.make(
        "multi-dwa", config(), THREE[:2], SIZES[:2]
    ).method.strategy
    state = strategy.init(Params(jnp.zeros(2), jnp.zeros((2, 3))), 2)
    for losses in ([4.0, 1.0], [4.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 1.0]):
        _, state = strategy.combine(jnp.array(losses), TWO, state, jax.random.key(0))
    # Half the loss of an epoch earlier, and all of it.
    rate = np.exp(np.array([0.5, 1.0]) / 2)
    np.testing.assert_allclose(state.weights, 2 * rate / rate.sum(), rtol=1e-5)


def test_tasks_are_drawn_by_their_sizes():
    strategy = variants.make(
        "multi-sampled", config(), THREE[:2], (3, 1)
    ).method.strategy
    state = strategy.init(Params(jnp.zeros(2), jnp.zeros((2, 3))), 2)
    keys = jax.random.split(jax.random.key(0), 1_000)
    draw = jax.jit(
        jax.vmap(lambda key: strategy.combine(LOSSES, TWO, state, key)[1].weights)
    )
    weights = draw(keys)
    np.testing.assert_array_equal(weights.sum(axis=1), 2)
    np.testing.assert_allclose(weights.mean(axis=0), [1.5, 0.5], atol=0.1)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("multi-cagrad", {"smto__cagrad__c": -1.0}, ["c is -1.0", "at least 0"]),
        ("multi-mgda", {"smto__path": "jacobi"}, ["'jacobi'", "auto", "gramian"]),
        ("multi", {"smto__head_grad": "all"}, ["'all'", "weighted"]),
        ("multi-uw-ub", {}, ["multi-uw-ub", "Gramian", "mgda-ub"]),
        ("multi-sdmgrad", {"batch_size": 2}, ["batch_size 2", "3 parts"]),
        ("multi-cr_mogm", {"smto__cr_mogm__inner": "moco"}, ["cr_mogm", "'mgda'"]),
        ("multi-cr_mogm", {"smto__cr_mogm__inner": "mgad"}, ["'mgad'", "mgda"]),
        (
            "multi-mgda-ub",
            {"grad_accumulation": 2},
            ["multi-mgda-ub", "grad_accumulation 2"],
        ),
        ("multi-fixed", {"smto__fixed__weights": (1.0,)}, ["1 weights", "2 tasks"]),
    ],
)
def test_bad_options(name, changes, words):
    with pytest.raises(InputError) as error:
        variants.make(name, config(**changes), THREE[:2], SIZES[:2])
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", ["multi-mgad", "multi-ub", "multi-mgda-up", "dual"])
def test_unknown_names(name):
    with pytest.raises(InputError, match=f"'{name}' is not .* mgda.*'-ub'"):
        variants.names(config(variants=(name,)))


def test_every_method_has_its_options_in_the_config():
    found = config().smto
    for name in smto.SMTOS:
        own = set(smto.options(name)) - {"reduction", "steps_per_epoch", "sizes"}
        assert set(found[name]) == own
