"""PLE against its equations, by hand, level by level."""

import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.types import InputError
from tests.models.architectures import T, copy_of, dense, mlp, predicted, softmax


def gate(stream, params, experts):
    """The mix of experts that a stream's gate makes."""
    weights = softmax(dense(stream, params["gate"]["Dense_0"]))
    return sum(weights[:, k, None] * expert for k, expert in enumerate(experts))


def test_outputs_are_those_of_the_equations():
    for t, (x, shared, head, outputs) in enumerate(predicted("ple")):
        common = [mlp(x, copy_of(shared["shared_0"], k)) for k in range(2)]
        theirs = [
            [mlp(x, copy_of(copy_of(shared["specific_0"], s), k)) for k in range(2)]
            for s in range(T)
        ]
        gates = copy_of(shared["task_gates_0"], t)
        stream = gate(x, gates, [*common, *theirs[t]])
        everything = [*common, *(expert for of_task in theirs for expert in of_task)]
        middle = gate(x, shared["shared_gate_0"], everything)
        common = [mlp(middle, copy_of(shared["shared_last"], k)) for k in range(2)]
        its = [mlp(stream, copy_of(head["specific"], k)) for k in range(2)]
        mixed = gate(stream, head["mix"], [*common, *its])
        np.testing.assert_allclose(outputs, dense(mixed, head["head"]), 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["ple", "cross_stitch"])
@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (models.make("resnet"), "ResNet has none; choose mlp, cnn or lenet"),
        (models.make("mlp", widths=(3,)), "MLP has 1; choose"),
    ],
)
def test_encoders_without_stages_are_refused(name, encoder, told):
    with pytest.raises(InputError, match=f"{name} needs an encoder.*{told}"):
        models.make(name, encoder=encoder)
