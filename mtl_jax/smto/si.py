"""Scale-invariant scalarization: the sum of the logarithms of the losses."""

from mtl_jax.smto.contract import LossWeighting, positive, stateless
from mtl_jax.types import Array, PyTree


def si() -> LossWeighting:
    """Minimise ``sum_i log l_i``: weights ``1 / l_i``, whatever unit a loss has.

    Losses must be positive. Source: the baseline of that name in Navon et al., ICML
    2022.
    """

    def update(losses: Array, state: PyTree, key: Array) -> tuple[Array, PyTree]:
        del key
        return 1 / positive(losses), state

    return LossWeighting(stateless, update)
