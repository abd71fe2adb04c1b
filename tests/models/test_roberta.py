"""RoBERTa by itself; see test_roberta_weights.py for checkpoints and transformers."""

import functools
import math
import re
import sys
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from mtl_jax import models
from mtl_jax.models.roberta import attend
from mtl_jax.types import InputError

SIZES: dict[str, Any] = {
    "vocabulary": 20,
    "width": 8,
    "layers": 2,
    "heads": 2,
    "hidden": 12,
}
SIZES |= {"positions": 12}
TOKENS = np.array(
    [[0, 5, 9, 2, 1, 1], [0, 7, 7, 3, 4, 2], [0, 2, 1, 1, 1, 1]], np.uint16
)


@functools.cache
def made(**options):
    """Make trunk and variables, weights larger than initial ones, biases not 0."""
    trunk: Any = models.make("roberta", **{**SIZES, "dropout": 0.0, **options})
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.jit(lambda: trunk.init(rngs, TOKENS, train=False))()
    leaves, tree = jax.tree.flatten(variables["params"])
    draw = np.random.default_rng(0).normal
    leaves = [a + draw(size=a.shape, scale=0.3).astype("f4") for a in leaves]
    return trunk, {**variables, "params": jax.tree.unflatten(tree, leaves)}


@functools.partial(jax.jit, static_argnums=0)
def evaluated(trunk, variables, x=TOKENS):
    return trunk.apply(variables, x, train=False)


@functools.partial(jax.jit, static_argnums=0)
def trained(trunk, variables):
    """Return features in training, and the variables after."""
    params, state = split(variables)
    z, state = trunk.apply(variables, TOKENS, True, mutable=list(state))
    return z, {"params": params, **state}


def split(variables):
    state = dict(variables)
    return state.pop("params"), state


def reference(params, tokens):
    """Compute the equations for one sequence without padding, a head at a time."""

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    def norm(x, p):
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
        return x * p["scale"] + p["bias"]

    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    word, position, kind = (
        p[f"{name}_embeddings"]["embedding"]
        for name in ("word", "position", "token_type")
    )
    x = word[tokens] + position[2 : 2 + len(tokens)] + kind
    x = norm(x, p["norm"])
    for n in range(SIZES["layers"]):
        layer = p[f"Layer_{n}"]
        q, k, v = (dense(x, layer[name]) for name in ("query", "key", "value"))
        mixed = []
        for columns in np.split(np.arange(8), SIZES["heads"]):
            scores = np.exp(q[:, columns] @ k[:, columns].T / math.sqrt(len(columns)))
            mixed.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, columns])
        y = dense(np.concatenate(mixed, axis=1), layer["mixed"])
        x = norm(x + y, layer["attention_norm"])
        y = dense(gelu(dense(x, layer["wide"])), layer["narrow"])
        x = norm(x + y, layer["norm"])
    return x[0]


def test_it_is_what_the_equations_say():
    trunk, variables = made()
    features = evaluated(trunk, variables)
    assert features.shape == (3, 8) and features.dtype == jnp.float32
    wanted = [reference(variables["params"], row[row != 1]) for row in TOKENS]
    np.testing.assert_allclose(features, np.stack(wanted), rtol=1e-5, atol=1e-5)


def test_linear_head():
    trunk, _ = made()
    head, z = trunk.head(3), jax.random.normal(jax.random.key(0), (4, 8))
    y, variables = head.init_with_output(jax.random.key(1), z, train=False)
    p = variables["params"]
    np.testing.assert_allclose(y, z @ p["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y, head.apply(variables, z, train=True))
    wide = trunk.head(500).init(jax.random.key(1), z, train=False)["params"]
    assert abs(float(wide["kernel"].std()) / 0.02 - 1) < 0.05
    assert variables.keys() == {"params"} and not wide["bias"].any()


def test_classification_head():
    trunk, _ = made(head="classification")
    head = trunk.head(3)
    z = jax.random.normal(jax.random.key(0), (4, 8))
    y, variables = head.init_with_output(jax.random.key(1), z, train=False)
    p = variables["params"]
    wanted = np.tanh(z @ p["dense"]["kernel"]) @ p["outputs"]["kernel"]
    assert y.shape == (4, 3)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y, head.apply(variables, z, train=True))


def test_initial_values_are_those_of_the_original():
    trunk: Any = models.make("roberta", layers=1)
    init = jax.jit(lambda: trunk.init(jax.random.key(0), TOKENS, train=False))
    for path, leaf in jax.tree.leaves_with_path(init()["params"]):
        kind = path[-1].key
        if kind in ("kernel", "embedding"):
            spread = 5 / math.sqrt(2 * leaf.size)
            assert abs(float(leaf.std()) / 0.02 - 1) < max(spread, 1e-2)
        else:
            np.testing.assert_array_equal(leaf, float(kind == "scale"))


def test_base_has_as_many_parameters_as_the_original():
    sizes: Any = {"vocabulary": 50265, "width": 768, "layers": 12, "heads": 12}
    trunk: Any = models.make("roberta", **sizes, hidden=3072)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda: trunk.init(keys, TOKENS, train=False))
    # 124,645,632 of transformers' RobertaModel, less its pooler.
    count = 124_645_632 - 768 * 769
    assert sum(n.size for n in jax.tree.leaves(variables["params"])) == count


def test_padding_and_neighbours_do_not_matter():
    trunk, variables = made()
    wanted = evaluated(trunk, variables)
    longer = np.pad(TOKENS, ((0, 0), (0, 4)), constant_values=1)
    features = evaluated(trunk, variables, longer.astype(np.int32))
    np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-6)
    order = [2, 0, 1]
    features = evaluated(trunk, variables, TOKENS[order])
    np.testing.assert_allclose(features, wanted[np.array(order)], rtol=1e-6, atol=1e-6)


def test_a_sequence_may_be_two_shorter_than_the_positions():
    trunk, variables = made()
    features = evaluated(trunk, variables, np.full((1, 10), 5))
    assert np.isfinite(features).all()
    # The last row of the table is that of the last token.
    params = variables["params"]
    table = params["position_embeddings"]["embedding"].at[-1].multiply(-9.0)
    params = {**params, "position_embeddings": {"embedding": table}}
    moved = evaluated(trunk, {"params": params}, np.full((1, 10), 5))
    assert not np.allclose(moved, features)


def test_half_precision_is_close():
    trunk, variables = made()
    wanted = evaluated(trunk, variables)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    features = evaluated(trunk, half)
    assert features.dtype == jnp.bfloat16
    np.testing.assert_allclose(features.astype(jnp.float32), wanted, atol=0.1)


def loss(trunk, state, x=TOKENS, train=True):
    """Make a loss of parameters."""

    def loss(params):
        variables = {"params": params, **state}
        z, _ = trunk.apply(variables, x, train, mutable=list(state) if train else [])
        return jnp.mean(jnp.sin(z))

    return loss


def test_a_layer_computed_again_has_the_same_gradients():
    values = []
    for remat in (False, True):
        trunk, variables = made(dropout=0.3, remat=remat)
        params, state = split(variables)
        loss_fn = loss(trunk, state)
        values.append(jax.jit(jax.value_and_grad(loss_fn))(params))
        assert (" remat" in str(jax.make_jaxpr(loss_fn)(params))) == remat
    chex.assert_trees_all_close(*values, rtol=1e-4, atol=1e-6)


def test_hessian_times_vector():
    # Forward over reverse, as factors take it, against a difference of gradients.
    trunk, variables = made(remat=True)
    params = variables["params"]
    grad = jax.jit(jax.grad(loss(trunk, {}, train=False)))
    draw = np.random.default_rng(1).normal
    v = jax.tree.map(lambda a: draw(size=a.shape).astype("f4"), params)
    actual = jax.jit(lambda p, v: jax.jvp(grad, (p,), (v,))[1])(params, v)
    step = 1e-3
    up = jax.tree.map(lambda a, b: a + step * b, params, v)
    down = jax.tree.map(lambda a, b: a - step * b, params, v)
    wanted = jax.tree.map(lambda a, b: (a - b) / (2 * step), grad(up), grad(down))
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    assert scale > 0.1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3 * scale),
        actual,
        wanted,
    )


def test_nothing_is_kept_where_nothing_is_dropped():
    trunk, variables = made()
    assert list(variables) == ["params"]
    z, after = trained(trunk, variables)
    assert list(after) == ["params"]
    np.testing.assert_allclose(z, evaluated(trunk, variables), rtol=1e-5, atol=1e-6)


def test_a_pass_drops_by_the_key_and_leaves_the_next():
    trunk, variables = made(dropout=0.4)
    key = variables["dropout"]["key"]
    assert key.dtype == jnp.uint32 and list(variables["dropout"]) == ["key"]
    z, after = trained(trunk, variables)
    again, _ = trained(trunk, variables)
    np.testing.assert_array_equal(z, again)
    following, later = trained(trunk, after)
    assert not np.allclose(z, following)
    keys = {tuple(np.asarray(v["dropout"]["key"])) for v in (variables, after, later)}
    assert len(keys) == 3


def test_evaluation_drops_nothing_and_leaves_the_key():
    trunk, variables = made(dropout=0.4)
    plain, plain_variables = made()
    features, state = trunk.apply(variables, TOKENS, False, mutable=["dropout"])
    np.testing.assert_array_equal(state["dropout"]["key"], variables["dropout"]["key"])
    wanted = evaluated(plain, {"params": plain_variables["params"]})
    np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-6)


def test_every_place_drops_its_share():
    # In a head of ones, outputs count what is left of both places.
    trunk: Any = models.make(
        "roberta", **{**SIZES, "width": 400, "dropout": 0.25}, head="classification"
    )
    head = trunk.head(1)
    z = jnp.ones((50, 400))
    state = head.init(jax.random.key(0), z, train=False)["dropout"]
    big = jnp.eye(400) * 20  # saturates: tanh is 0 or 1
    params = {
        "dense": {"kernel": big, "bias": jnp.zeros(400)},
        "outputs": {"kernel": jnp.ones((400, 1)), "bias": jnp.zeros(1)},
    }
    variables = {"params": params, "dropout": state}
    y, _ = head.apply(variables, z, True, mutable=["dropout"])
    # Of 0.75 squared left, scaled once, for the first scale is lost in saturation; were
    # the same dropped twice, it would be 1.
    assert abs(float(y.mean()) / 400 - 0.75) < 0.02


@pytest.mark.parametrize("of_head", [False, True])
def test_tasks_drop_by_keys_of_their_own(of_head):
    trunk, _ = made(dropout=0.4, head="classification")
    module = trunk.head(3) if of_head else trunk
    x = jnp.ones((4, 8)) if of_head else TOKENS
    keys = jax.random.split(jax.random.key(2), 3)
    rngs = {"params": keys, "dropout": keys}
    init = jax.jit(jax.vmap(lambda k: module.init(k, x, train=False)))
    variables = jax.device_get(init(rngs))
    # Of one set of parameters, so that only what is dropped differs.
    params = jax.tree.map(lambda leaf: leaf[0] + 0.1, variables["params"])
    state = {"dropout": variables["dropout"]}

    def run(state):
        return module.apply({"params": params, **state}, x, True, mutable=["dropout"])

    z, after = jax.jit(jax.vmap(run))(state)
    for n in range(3):
        assert not np.allclose(z[n], z[n - 1])
        wanted = jax.jit(run)(jax.tree.map(lambda leaf, n=n: leaf[n], state))
        np.testing.assert_allclose(z[n], wanted[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(
            after["dropout"]["key"][n], wanted[1]["dropout"]["key"]
        )


def test_all_places_drop_by_keys_of_their_own(monkeypatch):
    trunk, variables = made(dropout=0.4)
    seen = []

    def drop(x, rate, key):
        seen.append((rate, *np.asarray(jax.random.key_data(key)).tolist()))
        return x

    # Not an attribute: the package has the trunk by the name of its module.
    monkeypatch.setattr(sys.modules["mtl_jax.models.roberta"], "drop", drop)
    trunk.apply(variables, TOKENS, True, mutable=["dropout"])
    assert len(set(seen)) == len(seen) == 1 + 2 * SIZES["layers"]
    assert {rate for rate, *_ in seen} == {0.4}


def test_cudnn_is_given_lengths(monkeypatch):
    # No GPU is needed to see what it is given.
    given = []

    def attention(query, *_, **options):
        given.append(options)
        return query

    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    real = jnp.asarray(TOKENS != 1)
    q = jnp.zeros((3, 6, 2, 4), jnp.bfloat16)
    attend(q, q, q, real, "cudnn")
    (options,) = given
    assert options["implementation"] == "cudnn"
    np.testing.assert_array_equal(options["key_value_seq_lengths"], [4, 6, 2])
    np.testing.assert_array_equal(options["query_seq_lengths"], [6, 6, 6])
    lengths = options["key_value_seq_lengths"]
    assert lengths.dtype == options["query_seq_lengths"].dtype == jnp.int32
    attend(q.astype(jnp.float32), q, q, real, "cudnn")
    attend(q[:, :1], q, q, real, "cudnn")
    attend(q, q, q, real, "xla")
    assert [o["implementation"] for o in given[1:]] == ["xla"] * 3
    # Its rule for vmap fails where queries are mapped and lengths are not.
    jax.vmap(lambda q: attend(q, q, q, real, "cudnn"))(q[None])
    lengths = [given[-1][f"{name}_seq_lengths"] for name in ("query", "key_value")]
    assert all(isinstance(length, Tracer) for length in lengths)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocabulary": 1}, "vocabulary 1 must be at least 2"),
        ({"layers": 0}, "layers 0 must be at least 1"),
        ({"head": "pooler"}, "head 'pooler' is not one of: linear, classification"),
        ({"heads": 0}, "heads 0 must be at least 1"),
        ({"width": 9}, "width 9 is not divisible by its 2 heads"),
        ({"positions": 2}, "positions 2 must be at least 3"),
        ({"dropout": 1.0}, "dropout 1.0 must be at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout -0.1 must be"),
        ({"epsilon": 0.0}, "epsilon 0.0 must be positive"),
        ({"attention": "flash"}, "'flash' is not one of: xla, cudnn"),
        ({"depth": 3}, "option of roberta 'depth' is not one of: vocab"),
    ],
    ids=str,
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        models.make("roberta", **{**SIZES, **options})


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 11), np.uint16), "sequences of 11 tokens are longer than 10"),
        (np.zeros((2, 5), np.float32), "whole numbers; these are (2, 5) of float32"),
        (np.zeros((2, 5, 3), np.int32), "these are (2, 5, 3) of int32"),
    ],
    ids=["long", "fractions", "images"],
)
def test_inputs_that_are_no_tokens(x, words):
    trunk: Any = models.make("roberta", **SIZES)
    with pytest.raises(InputError, match=re.escape(words)):
        jax.eval_shape(lambda: trunk.init(jax.random.key(0), x, train=False))


def test_tokens_beyond_the_vocabulary():
    trunk: Any = models.make("roberta", **SIZES)
    trunk.check_inputs(np.array([[0, 19, 2]], np.uint16))
    with pytest.raises(InputError, match="go up to 20, and roberta's vocabulary is 20"):
        trunk.check_inputs(np.array([[0, 20, 2]], np.uint16))
    images: Any = models.make("mlp")
    images.check_inputs(np.full((2, 4), 255, np.uint8))
