"""Weights of torchvision's layout; see test_torch_parity.py for those of torch."""

import sys
import traceback
import zipfile
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mtl_jax import models
from mtl_jax.models import weights
from mtl_jax.types import InputError

RESNET: Any = models.make("resnet", widths=(4, 6), blocks=(1, 1), stem="imagenet")
VARIABLES = jax.eval_shape(
    lambda: RESNET.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
)


def norm(name, channels):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts}


SHAPES = {
    "conv1.weight": (4, 3, 7, 7),
    **norm("bn1", 4),
    "layer1.0.conv1.weight": (4, 4, 3, 3),
    **norm("layer1.0.bn1", 4),
    "layer1.0.conv2.weight": (4, 4, 3, 3),
    **norm("layer1.0.bn2", 4),
    "layer2.0.conv1.weight": (6, 4, 3, 3),
    **norm("layer2.0.bn1", 6),
    "layer2.0.conv2.weight": (6, 6, 3, 3),
    **norm("layer2.0.bn2", 6),
    "layer2.0.downsample.0.weight": (6, 4, 1, 1),
    **norm("layer2.0.downsample.1", 6),
}
"""Torchvision's names and shapes."""


def state(shapes=SHAPES):
    normal = np.random.default_rng(0).normal
    return {n: normal(size=shape).astype(np.float32) for n, shape in shapes.items()}


@pytest.fixture
def save(tmp_path):
    def save(state, name="weights.safetensors"):
        safetensors.numpy.save_file(state, tmp_path / name)
        return tmp_path / name

    return save


def test_every_array_has_its_place(save):
    arrays = state()
    unused = {"fc.weight": np.ones((2, 6)), "bn1.num_batches_tracked": np.ones(())}
    variables = weights.load(save({**arrays, **unused}), RESNET, VARIABLES)
    chex.assert_trees_all_equal_shapes(variables, dict(VARIABLES))
    params, stats = variables["params"], variables["batch_stats"]
    short = arrays["layer2.0.downsample.0.weight"]
    np.testing.assert_array_equal(
        params["Block_1"]["ConvNorm_2"]["kernel"][0, 0], short[:, :, 0, 0].T
    )
    np.testing.assert_array_equal(
        params["ConvNorm_0"]["norm"]["scale"], arrays["bn1.weight"]
    )
    np.testing.assert_array_equal(
        stats["Block_0"]["ConvNorm_1"]["norm"]["var"],
        arrays["layer1.0.bn2.running_var"],
    )


def test_half_precision_becomes_single(save):
    half = {name: array.astype(np.float16) for name, array in state().items()}
    variables = weights.load(save(half), RESNET, VARIABLES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def complaint(path, trunk=RESNET):
    with pytest.raises(InputError) as error:
        weights.load(path, trunk, VARIABLES)
    assert str(path) in str(error.value)
    return str(error.value)


def test_arrays_that_do_not_fit(save):
    arrays = state()
    del arrays["bn1.bias"], arrays["layer1.0.conv2.weight"]
    arrays["layer3.0.conv1.weight"] = np.zeros((8, 6, 3, 3), np.float32)
    arrays["conv1.weight"] = np.zeros((4, 3, 3, 3), np.float32)
    message = complaint(save(arrays))
    for words in (
        "bn1.bias [4] is missing; layer1.0.conv2.weight [4, 4, 3, 3] is missing; ",
        "layer3.0.conv1.weight [8, 6, 3, 3] is not of it; ",
        "conv1.weight is [4, 3, 3, 3], not [4, 3, 7, 7]. Set the model's options",
    ):
        assert words in message


def test_five_are_named(save):
    message = complaint(save({"conv1.weight": state()["conv1.weight"]}))
    assert message.count("is missing") == 5
    assert "; and 24 more. Set" in message


def test_a_trunk_that_has_none(save):
    assert "this is a MLP; choose resnet" in complaint(
        save(state()), models.make("mlp")
    )


def test_files_that_are_none(tmp_path):
    assert "are not there" in complaint(tmp_path / "none.safetensors")
    assert "'.bin', which is not one of: .safetensors" in complaint(tmp_path / "a.bin")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"12345678901234567890")
    assert "cannot be read (SafetensorError" in complaint(damaged)


def test_torch_file_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    assert "pip install torch, or save them as .safetensors" in complaint(path)


class Harmful:
    """Would run when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_torch_file_that_would_run_something(tmp_path):
    torch: Any = pytest.importorskip("torch")
    torch.save({"conv1.weight": Harmful()}, tmp_path / "weights.pt")
    message = complaint(tmp_path / "weights.pt")
    assert "cannot be read (UnpicklingError)" in message
    assert "weights_only" not in message  # torch's own advice is to run it


def test_advice_to_run_a_file_is_in_no_traceback(tmp_path):
    torch: Any = pytest.importorskip("torch")
    torch.save({"conv1.weight": Harmful()}, tmp_path / "weights.pt")
    with pytest.raises(InputError) as error:
        weights.load(tmp_path / "weights.pt", RESNET, VARIABLES)
    shown = "".join(traceback.format_exception(error.value))
    assert "InputError" in shown and "weights_only" not in shown


def test_torch_file_of_something_else(tmp_path):
    torch: Any = pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    torch.save({"model": {"conv1.weight": torch.zeros(2)}}, path)
    assert "hold a dict by the name 'model', not arrays by" in complaint(path)
    torch.save([1, 2], path)
    assert "hold a list by the name ''" in complaint(path)


def test_torch_file_that_is_compressed(tmp_path):
    torch: Any = pytest.importorskip("torch")
    plain, path = tmp_path / "plain.pt", tmp_path / "weights.pt"
    torch.save({"conv1.weight": torch.zeros(2)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "are compressed, as torch.save does not" in complaint(path)
