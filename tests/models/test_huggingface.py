"""Folders of Hugging Face's layout; see test_roberta_parity.py for transformers."""

import json
import re
from typing import Any

import chex
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from mtl_jax import models
from mtl_jax.models import state_dict, weights
from mtl_jax.types import InputError

CONFIG = {
    "model_type": "roberta",
    "vocab_size": 20,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 12,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-3,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.3,
    "pad_token_id": 1,
}


def both(name, weight, bias):
    return {f"{name}.weight": weight, f"{name}.bias": (bias,)}


def layer(name):
    return {
        **both(f"{name}.attention.self.query", (4, 4), 4),
        **both(f"{name}.attention.self.key", (4, 4), 4),
        **both(f"{name}.attention.self.value", (4, 4), 4),
        **both(f"{name}.attention.output.dense", (4, 4), 4),
        **both(f"{name}.attention.output.LayerNorm", (4,), 4),
        **both(f"{name}.intermediate.dense", (6, 4), 6),
        **both(f"{name}.output.dense", (4, 6), 4),
        **both(f"{name}.output.LayerNorm", (4,), 4),
    }


SHAPES = {
    "embeddings.word_embeddings.weight": (20, 4),
    "embeddings.position_embeddings.weight": (12, 4),
    "embeddings.token_type_embeddings.weight": (1, 4),
    **both("embeddings.LayerNorm", (4,), 4),
    **layer("encoder.layer.0"),
    **layer("encoder.layer.1"),
}
"""Hugging Face's names and shapes."""

UNUSED = {
    "roberta.embeddings.position_ids": np.zeros((1, 12), np.int64),
    "roberta.pooler.dense.weight": np.zeros((4, 4), np.float32),
    "lm_head.dense.weight": np.zeros((4, 4), np.float32),
    "lm_head.bias": np.zeros(20, np.float32),
    "classifier.out_proj.weight": np.zeros((2, 4), np.float32),
}


def state(prefix=""):
    normal = np.random.default_rng(0).normal
    return {f"{prefix}{n}": normal(size=s).astype("f4") for n, s in SHAPES.items()}


@pytest.fixture
def save(tmp_path):
    def save(arrays, **changes):
        config = {**CONFIG, **changes}
        config = {name: value for name, value in config.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
        return str(tmp_path)

    return save


def loaded(folder):
    """Load the folder's weights to a trunk of its own options."""
    trunk: Any = models.make("roberta", folder)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = np.zeros((1, 3), np.uint16)
    like = jax.eval_shape(lambda: trunk.init(rngs, x, train=False))
    variables = weights.load(folder, trunk, like)
    shapes = jax.tree.map(lambda a: (a.shape, np.dtype("f4")), like["params"])
    assert jax.tree.map(lambda a: (a.shape, a.dtype), variables) == {"params": shapes}
    return variables["params"]


def test_every_array_has_its_place(save):
    arrays = state()
    params = loaded(save(arrays))
    np.testing.assert_array_equal(
        params["word_embeddings"]["embedding"],
        arrays["embeddings.word_embeddings.weight"],
    )
    np.testing.assert_array_equal(
        params["Layer_1"]["wide"]["kernel"],
        arrays["encoder.layer.1.intermediate.dense.weight"].T,
    )
    np.testing.assert_array_equal(
        params["Layer_0"]["query"]["kernel"],
        arrays["encoder.layer.0.attention.self.query.weight"].T,
    )
    np.testing.assert_array_equal(
        params["Layer_0"]["norm"]["scale"],
        arrays["encoder.layer.0.output.LayerNorm.weight"],
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == sum(array.size for array in arrays.values())


def test_an_encoder_with_something_on_top(save):
    wanted = loaded(save(state()))
    params = loaded(save({**state("roberta."), **UNUSED}))
    chex.assert_trees_all_equal(params, wanted)


def test_half_precision_becomes_single(save):
    half = {n: array.astype(ml_dtypes.bfloat16) for n, array in state().items()}
    params = loaded(save(half))
    np.testing.assert_array_equal(
        params["position_embeddings"]["embedding"],
        half["embeddings.position_embeddings.weight"].astype(np.float32),
    )


def test_parts_and_their_index(save, tmp_path):
    arrays = state("roberta.")
    wanted = loaded(save(arrays))
    (tmp_path / "model.safetensors").unlink()
    names = sorted(arrays)
    where = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(names)}
    for file in set(where.values()):
        part = {name: arrays[name] for name in names if where[name] == file}
        safetensors.numpy.save_file(part, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    params = loaded(str(tmp_path))
    chex.assert_trees_all_equal(params, wanted)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-1.safetensors are not there"):
        loaded(str(tmp_path))
    index.write_text("[]")
    with pytest.raises(InputError, match="index.json have no weight_map"):
        loaded(str(tmp_path))


def test_sizes_and_epsilon_are_the_checkpoint_s_and_the_rest_the_user_s(save):
    folder = save(state())
    chosen: Any = {"vocabulary": 7, "epsilon": 1e-5, "dropout": 0.2, "remat": True}
    trunk = models.make("roberta", folder, **chosen)
    wanted = models.make(
        "roberta",
        vocabulary=20,
        width=4,
        layers=2,
        heads=2,
        hidden=6,
        positions=12,
        epsilon=1e-3,
        dropout=0.2,
        remat=True,
    )
    assert trunk == wanted


def test_weights_of_others_bring_no_options():
    assert models.make("mlp", "weights.pt") == models.make("mlp")


def complaint(folder):
    with pytest.raises(InputError) as error:
        loaded(folder)
    assert folder in str(error.value)
    return str(error.value)


def test_arrays_that_do_not_fit(save):
    arrays = state("roberta.")
    del arrays["roberta.embeddings.LayerNorm.bias"]
    arrays["roberta.encoder.layer.2.output.dense.bias"] = np.zeros(4, np.float32)
    arrays["roberta.encoder.layer.0.intermediate.dense.weight"] = np.zeros((5, 4), "f4")
    message = complaint(save(arrays, vocab_size=21))
    for words in (
        "embeddings.LayerNorm.bias [4] is missing; ",
        "encoder.layer.2.output.dense.bias [4] is not of it; ",
        "embeddings.word_embeddings.weight is [20, 4], not [21, 4]; ",
        "encoder.layer.0.intermediate.dense.weight is [5, 4], not [6, 4]. Set",
    ):
        assert words in message


def test_five_are_named(save):
    message = complaint(save({"embeddings.LayerNorm.bias": np.zeros(4, np.float32)}))
    assert message.count("is missing") == 5
    assert f"; and {len(SHAPES) - 6} more. Set" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "bert"},
            "model_type 'bert', and roberta is made for 'roberta'",
        ),
        ({"model_type": None}, "no field 'model_type'; give the folder of a RoBERTa"),
        ({"hidden_act": "relu"}, "hidden_act 'relu', and roberta is made for 'gelu'"),
        ({"pad_token_id": 0}, "pad_token_id 0, and roberta is made for 1"),
        ({"type_vocab_size": 2}, "type_vocab_size 2, and roberta is made for 1"),
        ({"is_decoder": True}, "is_decoder True, and"),
        ({"position_embedding_type": "relative_key"}, "'relative_key', and"),
        ({"layer_norm_eps": None}, "no field 'layer_norm_eps'"),
        ({"hidden_size": "4"}, "hidden_size '4'; it must be a whole number of 1 to"),
        ({"hidden_size": 4.0}, "hidden_size 4.0; it must be a whole"),
        ({"hidden_size": True}, "hidden_size True; it must be a whole"),
        ({"hidden_size": -4}, "hidden_size -4; it must be a whole"),
        ({"hidden_size": [4]}, "hidden_size [4]; it must be a whole"),
        ({"num_hidden_layers": float("nan")}, "num_hidden_layers nan; it must be a"),
        ({"num_hidden_layers": 10**9}, "layers 1000000000; it must be .* of 1 to 256:"),
        ({"vocab_size": float("inf")}, "vocab_size inf; it must be a whole"),
        ({"vocab_size": 10**30}, "vocab_size 1000.*; it must be a whole"),
        ({"layer_norm_eps": float("nan")}, "eps nan; it must be a number between 0"),
        ({"layer_norm_eps": -1e-5}, "eps -1e-05; it must be a number between 0"),
        ({"layer_norm_eps": 1e5}, "eps 100000.0; it must be a number between 0"),
        ({"type_vocab_size": True}, "type_vocab_size True, and roberta is made for 1"),
        ({"is_decoder": 0}, "is_decoder 0, and roberta is made for False"),
        ({"num_attention_heads": 3}, "width 4 is not divisible by its 3 heads"),
    ],
    ids=str,
)
def test_configs_of_something_else(save, changes, words):
    pattern = re.escape(words).replace(re.escape(".*"), ".*")
    with pytest.raises(InputError, match=pattern):
        models.make("roberta", save({}, **changes))


def test_a_folder_that_is_none(tmp_path):
    folder = str(tmp_path)
    assert "config.json are not there; give a folder as save_pretrained" in complaint(
        folder
    )
    (tmp_path / "config.json").write_text("{")
    assert "config.json cannot be read (JSONDecodeError" in complaint(folder)
    (tmp_path / "config.json").write_text("[]")
    assert "no field 'model_type'" in complaint(folder)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert "model.safetensors are not there" in complaint(folder)
    (tmp_path / "model.safetensors").write_bytes(b"12345678901234567890")
    assert "cannot be read (SafetensorError" in complaint(folder)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "model.safetensors").unlink()
    message = complaint(folder)
    assert "pytorch_model.bin are not read, for a pickle may run" in message
    assert "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "cannot be read (ValueError: it is nested too deeply)"),
        (b" " * 2**24 + b"{}", "cannot be read (ValueError: it has more than 16777216"),
        (b"\xff\xff", "cannot be read (UnicodeDecodeError"),
        (b'{"vocab_size": ' + b"1" * 5_000 + b"}", "cannot be read (ValueError"),
    ],
    ids=["deep", "large", "no text", "digits"],
)
def test_config_that_is_no_text_of_this_size(tmp_path, content, words):
    (tmp_path / "config.json").write_bytes(content)
    assert words in complaint(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_config_saved_by_another_editor(save, tmp_path, encoding):
    trunk = models.make("roberta", save({}))
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text, encoding)
    assert models.make("roberta", str(tmp_path)) == trunk


@pytest.mark.parametrize(
    "part",
    [
        *("../model.safetensors", "/tmp/model.safetensors", "a/model.safetensors"),
        *("a\\model.safetensors", "model.pt", "", "..", 3, None, ["a.safetensors"]),
    ],
    ids=str,
)
def test_index_that_leads_elsewhere(save, tmp_path, part):
    folder = save(state())
    outside = tmp_path / "a"
    outside.mkdir()
    (tmp_path / "model.safetensors").rename(outside / "model.safetensors")
    where = {name: part for name in SHAPES}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    message = complaint(folder)
    if isinstance(part, list):
        assert "have no weight_map of names to files" in message
    else:
        assert f"have a part {part!r}; parts are files .safetensors beside" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite(save, value):
    arrays = state()
    arrays["embeddings.LayerNorm.bias"] = np.array([0, 1, value, 2], np.float64)
    message = complaint(save(arrays))
    assert "values in embeddings.LayerNorm.bias that are not finite" in message


def test_values_that_are_whole_numbers(save):
    whole = {**state(), "embeddings.LayerNorm.bias": np.zeros(4, np.int64)}
    assert "embeddings.LayerNorm.bias in int64, which holds no" in complaint(
        save(whole)
    )


def header(**entry):
    """Make a safetensors header of one array."""
    array = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **entry}
    return json.dumps({"embeddings.LayerNorm.bias": array}).encode()


@pytest.mark.parametrize(
    "content",
    [
        header(shape=[10**9], data_offsets=[0, 4 * 10**9]),
        header(shape=[2**40, 2**40]),
        header(shape=[-4]),
        header(shape=[True]),
        header(shape=[float("nan")]),
        header(data_offsets=[16, 0]),
        header(data_offsets=[0, 2**64]),
        header(dtype="F33"),
        b"[" * 100_000,
        b"{}",
    ],
    ids=[
        *("larger", "endless", "negative", "truth", "nan", "backwards", "far"),
        *("type", "deep", "empty"),
    ],
)
def test_header_that_is_none(save, tmp_path, content):
    folder, path = save(state()), tmp_path / "model.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(16))
    assert "cannot be read (SafetensorError" in complaint(folder)
    path.write_bytes((2**63).to_bytes(8, "little") + content)
    assert "cannot be read (SafetensorError" in complaint(folder)


def test_no_array_is_read_before_all_fit(save, monkeypatch):
    def read(*_: Any):
        raise AssertionError

    folder = save({**state(), "embeddings.LayerNorm.bias": np.zeros(5, np.float32)})
    monkeypatch.setattr(state_dict.StoredArray, "read", read)
    assert "embeddings.LayerNorm.bias is [5], not [4]" in complaint(folder)
