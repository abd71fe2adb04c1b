"""From tasks to one direction: how a method's gradients are made.

Each makes what a family of methods looks at, at the least cost: one backward pass
of a weighted loss, gradients of all tasks, their Gramian only, gradients at the
representation, of parts of the batch, at other points, or at other preferences.
"""

from mtl_jax.smto.strategies.contract import Direction, Strategy, Tasks
from mtl_jax.smto.strategies.cotangent import by_cotangent, by_representation
from mtl_jax.smto.strategies.gramian import by_gramian, by_size
from mtl_jax.smto.strategies.jacobian import by_jacobian
from mtl_jax.smto.strategies.losses import by_losses
from mtl_jax.smto.strategies.perturbation import by_perturbation
from mtl_jax.smto.strategies.preferences import by_preferences
from mtl_jax.smto.strategies.regularization import by_regularizer
from mtl_jax.smto.strategies.rotation import by_rotation
from mtl_jax.smto.strategies.samples import by_samples

__all__ = [
    "Direction",
    "Tasks",
    "Strategy",
    "by_cotangent",
    "by_gramian",
    "by_jacobian",
    "by_losses",
    "by_perturbation",
    "by_preferences",
    "by_regularizer",
    "by_representation",
    "by_rotation",
    "by_samples",
    "by_size",
]
