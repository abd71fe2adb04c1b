"""Variants: what names mean, and which runs they hold."""

from typing import Any

import numpy as np
import pytest

from configs import default
from mtl_jax import variants
from mtl_jax.smto import LossWeighting


def config(**changes: Any) -> Any:
    found: Any = default.get_config()
    found.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return found


@pytest.mark.parametrize(
    ("listed", "smto", "expected"),
    [
        (("single", "multi"), "", ("single", "multi")),
        (("single",), "mgda", ("single", "multi-mgda")),
        (("multi-mgda",), "mgda", ("multi-mgda",)),
        # As the flag --config.variants=single,multi-mgda comes out of its parser.
        (("single,multi-mgda",), "", ("single", "multi-mgda")),
        (("single, multi",), "rlw", ("single", "multi", "multi-rlw")),
    ],
)
def test_names(listed, smto, expected):
    assert variants.names(config(variants=listed, smto__name=smto)) == expected


def test_single_has_a_run_per_seed_rate_and_task():
    found = variants.make("single", config(seeds=(3, 4), learning_rates=(0.1, 0.2)), 3)
    assert found.task_ids.tolist() == [[0], [1], [2]] * 4
    assert found.seeds.tolist() == [3] * 6 + [4] * 6
    np.testing.assert_array_equal(found.learning_rates, ([0.1] * 3 + [0.2] * 3) * 2)
    assert found.smto == "none"


def test_multi_has_a_run_per_seed_and_rate():
    found = variants.make("multi", config(seeds=(3, 4), learning_rates=(0.1, 0.2)), 3)
    assert found.task_ids.tolist() == [[0, 1, 2]] * 4
    assert found.smto == "sum"


@pytest.mark.parametrize(
    ("name", "head_grad", "weighted"),
    [
        ("multi", "default", True),
        ("multi-mgda", "default", False),
        ("multi-mgda", "weighted", True),
        ("multi-rlw", "unweighted", False),
    ],
)
def test_heads_are_weighted_as_asked(name, head_grad, weighted):
    found = variants.make(name, config(smto__head_grad=head_grad), 2)
    assert found.method.weighted_heads is weighted


@pytest.mark.parametrize(("task_map", "one"), [("vmap", True), ("sequential", False)])
def test_loss_weightings_take_one_backward_pass_where_it_pays(task_map, one):
    found = variants.make("multi-rlw", config(task_map=task_map), 2)
    assert isinstance(found.method.smto, LossWeighting) is one
