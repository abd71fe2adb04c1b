"""RoBERTa's encoder: features of token sequences, and heads on the first token.

``roberta()`` is a small one, for training from scratch; ``model.weights`` names a
folder of Hugging Face's, whose config then sets the sizes (see `huggingface`): with
roberta-base, 124,055,040 parameters. Computation runs in the type of the parameters,
statistics of layer norm and softmax in float32.

Assumption: dropout is on hidden states only, as in the original after the embeddings,
attention and feed-forward layers; the original also drops attention probabilities, for
which `jax.nn.dot_product_attention` has no place.

Source: Liu et al., 2019, arXiv:1907.11692; the encoder is of Devlin et al., 2019,
arXiv:1810.04805, with norms after the sums.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mtl_jax.models import huggingface
from mtl_jax.models.dropout import drop, fold, key_of_pass
from mtl_jax.models.layout import WeightLayout
from mtl_jax.models.trunk import Linear, Trunk
from mtl_jax.options import one_of
from mtl_jax.types import Array, InputError

PAD = 1
"""Token that fills sequences up; positions are numbered from the next number on."""
ATTENTION = ("xla", "cudnn")
NORMAL = nn.initializers.normal(0.02)


def _dense(width: int, name: str) -> nn.Dense:
    return nn.Dense(width, kernel_init=NORMAL, name=name)


def _norm(epsilon: float, name: str) -> nn.LayerNorm:
    # Not the mean of squares less the squared mean, which loses digits.
    return nn.LayerNorm(epsilon, use_fast_variance=False, name=name)


class Layer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normed."""

    heads: int
    hidden: int
    dropout: float
    epsilon: float
    attention: str
    first: bool
    """Only for the first token, which others are of use to."""

    @nn.compact
    def __call__(self, x: Array, real: Array, key: Array | None) -> Array:
        """Map ``[B, L, D]`` to the same, or ``[B, 1, D]``; ``real [B, L]``: no padding.

        What is dropped is up to the key; nothing without.
        """
        *_, width = x.shape

        def by_head(x: Array, name: str) -> Array:
            return _dense(width, name)(x).reshape(*x.shape[:2], self.heads, -1)

        asking = x[:, :1] if self.first else x
        y = attend(
            by_head(asking, "query"),
            by_head(x, "key"),
            by_head(x, "value"),
            real,
            self.attention,
        )
        y = _dense(width, "mixed")(y.reshape(asking.shape))
        y = drop(y, self.dropout, fold(key, 0))
        x = _norm(self.epsilon, "attention_norm")(asking + y)
        y = jax.nn.gelu(_dense(self.hidden, "wide")(x), approximate=False)
        y = drop(_dense(width, "narrow")(y), self.dropout, fold(key, 1))
        return _norm(self.epsilon, "norm")(x + y)


def attend(
    query: Array, key: Array, value: Array, real: Array, implementation: str
) -> Array:
    """Attend from ``[B, Q, heads, D]`` to those of ``[B, L, heads, D]`` that are real.

    cuDNN's is taken where it can be and there is something to win: for more than one
    query, in half precision. To it, real are all up to the last one.
    """
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    if implementation == "xla" or not half or query.shape[1] == 1:
        mask = real[:, None, None, :]
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, implementation="xla"
        )
    # Lengths, for with a mask its rule for vmap fails, and of the queries too; it wants
    # all of its arguments mapped or none, so that lengths must be where queries are.
    length = real.shape[1]
    lengths = jnp.where(real, jnp.arange(1, length + 1)[None], 0).max(axis=1)
    lengths = jnp.where(query[:, 0, 0, 0] == 0, lengths, lengths)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        query_seq_lengths=jnp.maximum(lengths, length),
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )


class Roberta(Trunk):
    """Embeddings and layers: features ``[B, D]``, the first token's at the end."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int
    dropout: float
    epsilon: float
    attention: str
    remat: bool
    head_kind: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Features ``[B, D]`` of tokens ``[B, L]``, at the end padded by `PAD`."""
        self._check_shape(x)
        key = key_of_pass(self, self.dropout, train)
        x = x.astype(jnp.int32)
        real = x != PAD
        places = jnp.cumsum(real, axis=1) * real + PAD

        def embed(count: int, kind: str, numbers: Array) -> Array:
            name = f"{kind}_embeddings"
            table = nn.Embed(count, self.width, embedding_init=NORMAL, name=name)
            return table(numbers)

        x = embed(self.vocabulary, "word", x)
        x = x + embed(1, "token_type", jnp.zeros_like(places))
        x = x + embed(self.positions, "position", places)
        x = _norm(self.epsilon, "norm")(x)
        x = drop(x, self.dropout, fold(key, 0))
        layer: Any = nn.remat(Layer) if self.remat else Layer
        for n in range(self.layers):
            # Named, for remat would change the name, and so the initial values.
            x = layer(
                self.heads,
                self.hidden,
                self.dropout,
                self.epsilon,
                self.attention,
                first=n == self.layers - 1,
                name=f"Layer_{n}",
            )(x, real, fold(key, 1 + n))
        return x[:, 0]

    def head(self, width: int) -> nn.Module:
        """Make a task's head: features to outputs ``[B, width]``."""
        return HEADS[self.head_kind](width, self.dropout)

    def layout(self) -> WeightLayout | None:
        """Return Hugging Face's."""
        return huggingface.layout(self.layers)

    def check_inputs(self, x: np.ndarray) -> None:
        """Raise an `InputError` for tokens ``[N, L]`` that have no embedding."""
        if x.size and x.max() >= self.vocabulary:
            raise InputError(
                f"tokens go up to {x.max()}, and roberta's vocabulary is "
                f"{self.vocabulary}; set it to that of the data, or tokenize them for "
                f"the weights."
            )

    def _check_shape(self, x: Array) -> None:
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(
                f"roberta's inputs are tokens [B, L], whole numbers; these are "
                f"{x.shape} of {x.dtype}: choose another model or setting."
            )
        longest = self.positions - PAD - 1
        if x.shape[1] > longest:
            raise InputError(
                f"sequences of {x.shape[1]} tokens are longer than {longest}, the "
                f"positions of roberta less {PAD + 1}; shorten them, or choose more "
                f"positions where it is trained from scratch."
            )


class ClassificationHead(nn.Module):
    """A dense layer with tanh, and one of outputs; both drop some of their inputs."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, features: Array, train: bool = False) -> Array:
        """Map ``[B, D]`` to ``[B, width]``."""
        key = key_of_pass(self, self.dropout, train)
        x = drop(features, self.dropout, fold(key, 0))
        x = jnp.tanh(_dense(features.shape[-1], "dense")(x))
        x = drop(x, self.dropout, fold(key, 1))
        return _dense(self.width, "outputs")(x)


HEADS: dict[str, Callable[[int, float], nn.Module]] = {
    "linear": lambda width, _: Linear(width, kernel_init=NORMAL, parent=None),
    "classification": lambda width, dropout: ClassificationHead(
        width, dropout, parent=None
    ),
}
"""Makers of a task's head, by name, from its outputs and the share that is dropped."""


def roberta(
    vocabulary: int = 8000,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 512,
    positions: int = 514,
    dropout: float = 0.1,
    epsilon: float = 1e-5,
    attention: str = "xla",
    remat: bool = False,
    head: str = "linear",
) -> Trunk:
    """Make the trunk, which makes the heads.

    Args:
      vocabulary: number of tokens.
      width: of hidden states and features.
      layers: of the encoder.
      heads: of attention; they share the width.
      hidden: width inside the feed-forward layers.
      positions: rows of the table of positions, 2 more than tokens of a sequence.
      dropout: share of entries of hidden states that are dropped in training; above 0,
        the model state holds a key, and initialisation needs an rng ``dropout``.
      epsilon: of layer norms, added to variances.
      attention: ``xla``, or ``cudnn``, which is a GPU's and for half precision, as of
        passes in training with ``compute="bfloat16"``: what is computed in float32,
        evaluation and factors, goes through ``xla``.
      remat: compute a layer again in the backward pass, for less memory.
      head: of a task, on the first token's features: ``linear``, or RoBERTa's own
        ``classification``, with a dense layer of tanh and dropout before the last.

    Raises:
      InputError: a value out of its range; inputs that are no tokens, or too long
        (said at initialisation).
    """
    sizes = {
        "vocabulary": (vocabulary, PAD + 1),
        "width": (width, 1),
        "layers": (layers, 1),
        "heads": (heads, 1),
        "hidden": (hidden, 1),
        "positions": (positions, PAD + 2),
    }
    for name, (size, least) in sizes.items():
        if size < least:
            raise InputError(f"roberta {name} {size} must be at least {least}.")
    if width % heads:
        raise InputError(
            f"roberta width {width} is not divisible by its {heads} heads; choose a "
            f"multiple of them."
        )
    if not 0 <= dropout < 1:
        raise InputError(f"roberta dropout {dropout} must be at least 0 and below 1.")
    if epsilon <= 0:
        raise InputError(f"roberta epsilon {epsilon} must be positive.")
    one_of("roberta attention", attention, ATTENTION)
    one_of("roberta head", head, HEADS)
    return Roberta(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        hidden=hidden,
        positions=positions,
        dropout=dropout,
        epsilon=epsilon,
        attention=attention,
        remat=remat,
        head_kind=head,
    )
