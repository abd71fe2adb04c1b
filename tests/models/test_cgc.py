"""CGC against its equations, by hand."""

import numpy as np

from tests.models.architectures import copy_of, dense, mlp, predicted, softmax


def test_outputs_are_those_of_the_equations():
    for x, shared, head, outputs in predicted("cgc"):
        experts = [
            mlp(x, copy_of(layers["encoder"], k))
            for layers in (shared, head)
            for k in range(2)
        ]
        gate = softmax(dense(x, head["gate"]["Dense_0"]))
        mixed = sum(gate[:, k, None] * experts[k] for k in range(4))
        np.testing.assert_allclose(outputs, dense(mixed, head["head"]), 1e-4, 1e-5)
