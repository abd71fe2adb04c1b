"""Models of anybody as trunks: linen, NNX and equinox modules, and pairs of functions.

>>> from flax import linen as nn
>>> as_trunk(nn.Dense(8)).head(3).features
3
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from mtl_jax.models.head import PENALTIES, penalise, split_penalties
from mtl_jax.models.trunk import Trunk
from mtl_jax.types import Array, InputError, PyTree

MODES = {
    "train": lambda train: train,
    "training": lambda train: train,
    "is_training": lambda train: train,
    "deterministic": lambda train: not train,
}
"""Names of the argument that tells a module training from evaluation."""
KINDS = (
    "a linen module, an NNX module (or what nnx.split makes of one, or a function from "
    "nnx.Rngs to one), an equinox module, or a pair (init(key, x), apply(params, x))"
)


def as_trunk(model: Any) -> Trunk:
    """Make a trunk of a model: inputs ``[B, ...]`` to a representation ``[B, ...]``.

    A module is told whether it trains if its call takes ``train``, ``training``,
    ``is_training`` or ``deterministic``. Parameters of a linen module, of a pair of
    functions, and of a function from ``nnx.Rngs`` are drawn anew for every seed; an NNX
    or equinox module that is given brings its own, the same for all seeds.

    Args:
      model: a trunk of ours; a linen module; an NNX module, its ``(graphdef, state)``,
        its class, or ``rngs -> module``; an equinox module, which like all of them
        takes one example; or ``(init, apply)`` with ``init(key, x) -> params`` and
        ``apply(params, x) -> representation``.

    Raises:
      InputError: it is none of these.
    """
    if isinstance(model, Trunk):
        return model
    if isinstance(model, nn.Module):
        module = model.clone(parent=None)
        return LinenTrunk(lambda: module, repr(module))
    if isinstance(model, nnx.Module):
        return NNXTrunk(lambda _: model)
    if isinstance(model, tuple | list) and len(model) == 2:
        if isinstance(model[0], nnx.GraphDef):
            return NNXTrunk(lambda _: nnx.merge(*model))
        if all(map(callable, model)):
            return FunctionTrunk(*model)
    if callable(model) and _arrays(model):
        return PyTreeTrunk(model)
    if inspect.isclass(model) and issubclass(model, nnx.Module):
        make: Any = model
        return NNXTrunk(lambda rngs: make(rngs=rngs))
    if inspect.isfunction(model) and "rngs" in inspect.signature(model).parameters:
        return NNXTrunk(model)
    raise InputError(f"the trunk is {model!r}; pass {KINDS}.")


class LinenTrunk(Trunk):
    """Somebody's linen module; its batch statistics are model state, as is the key that
    its dropout draws from."""

    make: Callable[[], Any]
    """Returns the module: a field that is one would be a part of this one."""
    text: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Return the representation ``[B, ...]``."""
        module = self.make()
        mode: Any = _mode(type(module).__call__, train)

        def drawn(key: Array) -> dict[str, Any]:
            return dict(module.init({"params": key, "dropout": key}, x, **mode))

        def others() -> PyTree:
            variables = drawn(jax.random.key(0))
            return {k: v for k, v in variables.items() if k != "params"}

        params = self.param("module", lambda key: drawn(key).get("params", {}))
        state = self.variable("state", "module", others)
        key = self.variable("state", "key", self._draw_key)
        variables = {"params": params, **state.value}
        if not train:
            outputs: Any = module.apply(variables, x, **mode)
            return outputs
        following, now = jax.random.split(jax.random.wrap_key_data(key.value))
        rngs = {"params": now, "dropout": now}
        applied: Any = module.apply(
            variables, x, rngs=rngs, mutable=[*state.value, PENALTIES], **mode
        )
        outputs, moved = applied
        if PENALTIES in moved:
            penalty, moved = split_penalties(moved)
            penalise(self, penalty)
        if not self.is_initializing():
            state.value, key.value = dict(moved), jax.random.key_data(following)
        return outputs

    def _draw_key(self) -> Array:
        """Key of the task, or tasks would share their masks."""
        return jax.random.key_data(self.make_rng("dropout"))


class FunctionTrunk(Trunk):
    """A pair of pure functions."""

    draw: Callable[[Array, Array], PyTree]
    """``(key, x) -> params``."""
    represent: Callable[..., Array]
    """``(params, x) -> representation``."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Return the representation ``[B, ...]``."""
        params = self.param("pair", lambda key: _as_arrays(self.draw(key, x)))
        return self.represent(params, x, **_mode(self.represent, train))


class NNXTrunk(Trunk):
    """Somebody's NNX module; its batch statistics and keys are model state."""

    make: Callable[[nnx.Rngs], nnx.Module]

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Return the representation ``[B, ...]``."""
        graph, like, like_state = self._shapes()
        params = self.param("module", lambda key: nnx.to_pure_dict(self._split(key)[1]))
        state = self.variable("state", "module", self._draw_state)
        nnx.replace_by_pure_dict(like, params)
        pure = jax.tree.map(_as_stored, nnx.to_pure_dict(like_state), state.value)
        nnx.replace_by_pure_dict(like_state, pure)
        module = nnx.merge(graph, like, like_state)
        (module.train if train else module.eval)()
        outputs = module(x, **_mode(type(module).__call__, train))
        if train and not self.is_initializing():
            _, _, left = nnx.split(module, nnx.Param, ...)
            moved: Any = nnx.to_pure_dict(left)
            state.value = jax.tree.map(_as_numbers, moved)
        return outputs

    def _split(self, key: Array) -> tuple[Any, Any, Any]:
        split: Any = nnx.split(self.make(nnx.Rngs(key)), nnx.Param, ...)
        return split

    def _shapes(self) -> tuple[Any, Any, Any]:
        """Graph of the module, and shapes of its parameters and of its state."""
        graphs = []

        def arrays(key: Array) -> tuple[Any, Any]:
            graph, *states = self._split(key)
            graphs.append(graph)
            return tuple(states)

        shapes = jax.eval_shape(arrays, jax.random.key(0))
        return graphs[0], *shapes

    def _draw_state(self) -> PyTree:
        """State at first; its keys depend on the task, or tasks would share masks."""
        key = self.make_rng("dropout")
        leaves, structure = jax.tree.flatten(
            nnx.to_pure_dict(self._split(jax.random.key(0))[2])
        )
        drawn = [
            jax.random.fold_in(key, i) if _is_key(leaf) else leaf
            for i, leaf in enumerate(leaves)
        ]
        return structure.unflatten(map(_as_numbers, drawn))


class PyTreeTrunk(Trunk):
    """A module that is a pytree of its arrays and takes one example, as equinox's."""

    module: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Return the representation ``[B, ...]``."""
        del train
        leaves, structure = jax.tree.flatten(self.module)
        arrays = self.param("module", lambda _: _arrays(self.module))
        given = iter(arrays)
        full = [next(given) if _is_array(leaf) else leaf for leaf in leaves]
        return jax.vmap(structure.unflatten(full))(x)


def _mode(call: Callable, train: bool) -> dict[str, bool]:
    """Return the argument by which a call learns whether it trains, if it takes one."""
    known = inspect.signature(call).parameters
    return {name: of(train) for name, of in MODES.items() if name in known}


def _is_array(leaf: Any) -> bool:
    is_array = isinstance(leaf, jax.Array | np.ndarray)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _arrays(model: Any) -> list[Array]:
    """Return the floating arrays of a pytree; none of what is no tree of arrays."""
    return [leaf for leaf in jax.tree.leaves(model) if _is_array(leaf)]


def _as_arrays(params: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, params)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_numbers(leaf: Array) -> Array:
    """Return the numbers of a key, which checkpoints and casts know; others stay."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_stored(like: Any, leaf: Array) -> Array:
    return jax.random.wrap_key_data(leaf) if _is_key(like) else leaf
