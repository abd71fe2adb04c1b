"""RoBERTa's options and weights in a folder of Hugging Face's transformers.

Such a folder holds ``config.json`` and ``model.safetensors``, or its parts and their
index. It comes as

    AutoModel.from_pretrained("roberta-base").save_pretrained(folder)

and holds the encoder alone or as a part, ``roberta.``, of a model with a head on top;
heads and the pooler are left out. A pickle, ``pytorch_model.bin``, is not read: that
line makes what is.
"""

import functools
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtl_jax.models.layout import Place, WeightLayout
from mtl_jax.models.state_dict import read_folder, read_json
from mtl_jax.options import is_positive, is_whole
from mtl_jax.types import InputError, PyTree

SIZES = {
    "vocabulary": ("vocab_size", 2**22),
    "width": ("hidden_size", 2**16),
    "layers": ("num_hidden_layers", 2**8),
    "heads": ("num_attention_heads", 2**10),
    "hidden": ("intermediate_size", 2**18),
    "positions": ("max_position_embeddings", 2**20),
}
"""Our options that a checkpoint brings along, by the fields of its config, and the most
that each may be: far above what there is, and far below what no machine holds."""
EPSILON = "layer_norm_eps"

ALLOWED: dict[str, tuple[Any, ...]] = {
    "model_type": ("roberta", "xlm-roberta"),
    "hidden_act": ("gelu",),
    "pad_token_id": (1,),
    "type_vocab_size": (1,),
    "is_decoder": (False,),
    "position_embedding_type": ("absolute",),
}
"""Values that the trunk is made for."""

OFTEN_LEFT_OUT = {"is_decoder": False, "position_embedding_type": "absolute"}
PREFIX = "roberta."
UNUSED = re.compile(r"(lm_head|pooler|classifier)\.|embeddings\.position_ids$")
LINEAR = (1, 0)
"""Theirs are ``[out, in]``, ours ``[in, out]``."""
DENSE = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mixed",
    "intermediate.dense": "wide",
    "output.dense": "narrow",
}
NORMS = {"attention.output.LayerNorm": "attention_norm", "output.LayerNorm": "norm"}


def options(folder: str) -> dict[str, Any]:
    """Read the options of `roberta` from a folder's ``config.json``.

    Raises:
      InputError: it is not there, lacks a field, or is of another architecture.
    """
    path = Path(folder) / "config.json"
    config = read_json(path)
    config = {**OFTEN_LEFT_OUT, **(config if isinstance(config, dict) else {})}
    fields = (*ALLOWED, *(field for field, _ in SIZES.values()), EPSILON)
    for field in fields:
        if field not in config:
            raise InputError(
                f"weights {path} have no field {field!r}; give the folder of a RoBERTa "
                f"checkpoint."
            )
    for field, allowed in ALLOWED.items():
        value = config[field]
        if value not in allowed or type(value) is not type(allowed[0]):
            raise InputError(
                f"weights {path} have {field} {reprlib.repr(value)}, and roberta is "
                f"made for {' or '.join(map(repr, allowed))}; choose another "
                f"checkpoint."
            )
    sizes = {
        ours: _size(path, field, config[field], most)
        for ours, (field, most) in SIZES.items()
    }
    return {**sizes, "epsilon": _epsilon(path, config[EPSILON])}


def _size(path: Path, field: str, value: Any, most: int) -> int:
    if not is_whole(value) or value > most:
        raise InputError(
            f"weights {path} have {field} {reprlib.repr(value)}; it must be a whole "
            f"number of 1 to {most}: save them again with save_pretrained."
        )
    return value


def _epsilon(path: Path, value: Any) -> float:
    if not is_positive(value) or value >= 1:
        raise InputError(
            f"weights {path} have {EPSILON} {reprlib.repr(value)}; it must be a number "
            f"between 0 and 1: save them again with save_pretrained."
        )
    return value


def layout(layers: int) -> WeightLayout:
    """Return the layout for an encoder of so many layers."""
    return WeightLayout(read_folder, _place_name, functools.partial(_places, layers))


def _place_name(name: str) -> str | None:
    name = name.removeprefix(PREFIX)
    return None if UNUSED.match(name) else name


def _places(layers: int, variables: PyTree) -> Iterator[Place]:
    del variables
    for kind in ("word", "position", "token_type"):
        name = f"{kind}_embeddings"
        yield Place(f"embeddings.{name}.weight", ("params", name, "embedding"))
    yield from _norm("embeddings.LayerNorm", ("params", "norm"))
    for n in range(layers):
        theirs, ours = f"encoder.layer.{n}", ("params", f"Layer_{n}")
        for name, module in DENSE.items():
            kernel = (*ours, module, "kernel")
            yield Place(f"{theirs}.{name}.weight", kernel, LINEAR)
            yield Place(f"{theirs}.{name}.bias", (*ours, module, "bias"))
        for name, module in NORMS.items():
            yield from _norm(f"{theirs}.{name}", (*ours, module))


def _norm(theirs: str, ours: tuple[str, ...]) -> Iterator[Place]:
    yield Place(f"{theirs}.weight", (*ours, "scale"))
    yield Place(f"{theirs}.bias", (*ours, "bias"))
