"""Goals of docs/accelerators.md that XLA's compilers can tell, where they are there."""

import importlib
from importlib.util import find_spec
from typing import Any

import pytest

from mtl_jax.devices import target
from mtl_jax.training import ahead

pytestmark = pytest.mark.skipif(
    not find_spec("jax_cuda13_plugin"), reason="no jax_cuda13_plugin"
)


def steps(setting, **changes) -> list[Any]:
    """Costs of a step of a variant, and of a plain one, on an H200."""
    config = importlib.import_module(f"configs.{setting}").get_config()
    changes = {"seeds": (0,), "factors.names": (), **changes}
    config.update_from_flattened_dict(changes)
    made = ahead.experiment(config, target.make("h200"))
    pieces, _ = ahead.pieces(made, plain=True)
    return [ahead._cost(piece, made) for piece in pieces if piece.unit == "step"]


def test_bookkeeping_takes_few_kernels():
    """Weights, norm, finiteness and cosines, however many leaves there are."""
    ours, plain = steps("fashion_mtl", variants=("multi",))
    assert ours.kernels <= plain.kernels + 16


SMALL = {"model.resnet.blocks": (1, 1), "model.resnet.widths": (64, 128)}


def test_gradients_of_many_tasks_take_the_memory_of_one_pass():
    changes = {"variants": ("multi-pcgrad",), "smto.path": "gramian", **SMALL}
    ours, plain = steps("celeba", **changes)
    assert ours.temporaries < 1.5 * plain.temporaries
    # A forward pass, and 40 backward passes of twice its operations, less the input's.
    assert ours.flops < 1.1 * plain.flops * (1 + 2 * 41) / 3
