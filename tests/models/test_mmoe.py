"""MMoE against its equations, by hand."""

import numpy as np

from tests.models.architectures import T, copy_of, dense, mlp, predicted, softmax


def test_outputs_are_those_of_the_equations():
    for x, shared, head, outputs in predicted("mmoe"):
        experts = [mlp(x, copy_of(shared["encoder"], k)) for k in range(3)]
        gate = softmax(dense(x, head["gate"]["Dense_0"]))
        mixed = sum(gate[:, k, None] * experts[k] for k in range(3))
        np.testing.assert_allclose(outputs, dense(mixed, head["head"]), rtol=1e-4)
        assert (gate.std(axis=1) > 0.01).all()  # experts are not averaged
    assert T == 3
