"""Penalties on what tasks see in their shared representation (Rep-MTL).

Source: Wang, Li & Xu, ICCV 2025 (arXiv 2507.21049), section 3, from the text: there is
no code to be checked against. ``S_t = dL_t / dZ`` is the saliency of a task, the
gradient of its loss in the representation.
"""

import jax
import jax.numpy as jnp

from mtl_jax.smto.contract import (
    Regularizer,
    check_choice,
    check_range,
    stateless,
)
from mtl_jax.types import Array, Scalar

INFINITE = float("inf")


def repmtl(
    tsr: float = 0.9,
    csa: float = 0.9,
    temperature: float = 0.5,
    through_heads: bool = True,
) -> Regularizer:
    """Minimise ``sum_t L_t + tsr L_tsr + csa L_csa``, with unit weights of the losses.

    See `saliency_entropy` and `saliency_alignment`. Both are functions of saliencies,
    and train by derivatives of these, which are of second order in the heads. The text
    does not say how; of saliencies held constant the penalties have no slope, and what
    is left is the sum of the losses.

    Args:
      tsr: weight of the entropy; the paper has .7 to 1.5, mostly .9.
      csa: weight of the alignment, likewise.
      temperature: of the alignment; the text does not say it, the value is ours.
      through_heads: whether the penalties train the heads, too, or the trunk alone;
        the text does not say it.

    Raises:
      InputError: an option out of its range; when the run is set up, a representation
        of several arrays.
    """
    tsr = check_range("repmtl's tsr", tsr, 0, INFINITE)
    csa = check_range("repmtl's csa", csa, 0, INFINITE)
    temperature = check_range(
        "repmtl's temperature", temperature, 0, INFINITE, open_low=True
    )
    check_choice("repmtl's through_heads", through_heads, (False, True))

    def penalty(grads: Array) -> Scalar:
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(grads)))
        scaled = grads / jnp.where(largest > 0, largest, 1)  # neither depends on it
        aligned = saliency_alignment(scaled, temperature)
        return tsr * saliency_entropy(scaled) + csa * aligned

    return Regularizer(stateless, penalty, through_heads)


def saliency_entropy(grads: Array) -> Scalar:
    """Measure how evenly tasks share examples and positions: the mean entropy (TSR).

    ``mean_i -sum_t P_it log P_it`` of ``P_it = |s_it| / sum_k |s_ik|``, where ``s_it``
    is the mean over channels of the saliency of task ``t`` at place ``i``; in nats. It
    is 0 where every place matters to one task, or to none.

    >>> apart = jnp.array([[[[2.0]], [[0.0]]], [[[0.0]], [[1.0]]]])  # [T, B, P, C]
    >>> float(saliency_entropy(apart)), round(float(saliency_entropy(apart + 9)), 3)
    (0.0, 0.69)

    Args:
      grads: saliencies ``[T, B, P, C]``: tasks, examples, positions, channels.
    """
    sizes = jnp.abs(grads.mean(axis=-1))
    total = sizes.sum(axis=0)
    shares = sizes / jnp.where(total > 0, total, 1)[None]
    surprise = jnp.log(1 / jnp.where(shares > 0, shares, 1))
    return (shares * surprise).sum(axis=0).mean()


def saliency_alignment(grads: Array, temperature: float | Scalar) -> Scalar:
    """Measure how far tasks' channels are from the example's, by contrast (CSA).

    Of an example ``b`` take ``S_t S_t'`` over positions, and the anchor ``A A'`` of the
    mean saliencies ``A [C, T]``, flatten both to length 1, ``z_bt`` and ``z_b``, and
    ``sum_t mean_b -log(exp(<z_b, z_bt> / tau) / sum_(k != b) exp(<z_b, z_k> / tau))``.
    Inner products of such matrices are those of their factors: none is formed.

    Args:
      grads: as in `saliency_entropy`.
      temperature: ``tau``.
    """
    anchors = jnp.moveaxis(grads.mean(axis=2), 0, 1)  # [B, T, C]
    between = jnp.einsum("btc,ksc->bkts", anchors, anchors)
    products = (between**2).sum(axis=(2, 3))  # <A_b A_b', A_k A_k'>
    lengths = _root(jnp.diagonal(products))
    with_tasks = jnp.einsum("bsc,tbpc->tbsp", anchors, grads)
    positive = (with_tasks**2).sum(axis=(2, 3))  # <A_b A_b', S_t S_t'>
    gram = _gram(grads)
    positive = _divide(positive, lengths[None] * _root((gram**2).sum(axis=(2, 3))))
    others = _divide(products, lengths[:, None] * lengths[None])
    same = jnp.eye(len(lengths), dtype=bool)
    scores = jnp.where(same, -jnp.inf, others / temperature)
    if len(lengths) == 1:  # nothing to contrast with
        return -positive.sum() / temperature
    contrast = jax.nn.logsumexp(scores, axis=1)
    return (contrast[None] - positive / temperature).mean(axis=1).sum()


def _gram(grads: Array) -> Array:
    """Inner products over positions or channels, whichever are fewer; as long as M."""
    positions, channels = grads.shape[2:]
    pairs = "tbpc,tbqc->tbpq" if positions < channels else "tbpc,tbpd->tbcd"
    return jnp.einsum(pairs, grads, grads)


def _root(squares: Array) -> Array:
    """Square root, of slope 0 at 0."""
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def _divide(a: Array, b: Array) -> Array:
    """Quotient, 0 where it is of 0 by 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
