"""LeNet as the multi-task literature has it: the trunk of MultiLeNet."""

from collections.abc import Sequence

from mtl_jax.models.cnn import cnn
from mtl_jax.models.trunk import Trunk
from mtl_jax.options import check_sizes, is_whole
from mtl_jax.types import InputError


def lenet(
    channels: Sequence[int] = (10, 20), hidden: int = 50, conv: str = "auto"
) -> Trunk:
    """Make the trunk: 5x5 convolutions without padding, pools, and a dense layer.

    The defaults are those of Sener & Koltun (2018, arXiv:1810.04650), who also drop
    channels in training, and whose heads have a layer more; ``channels=(20, 50),
    hidden=500`` are those of Caffe's LeNet.

    >>> import jax, jax.numpy as jnp
    >>> variables = lenet().init(jax.random.key(0), jnp.ones((1, 28, 28, 1)), False)
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
    21330

    Args:
      channels: output channels, one a convolution.
      hidden: width of the dense layer.
      conv: as in `cnn`.

    Raises:
      InputError: a size is no positive whole number, an unknown form; images that the
        convolutions cannot halve (said when the trunk is initialised).
    """
    check_sizes("lenet channels", channels)
    if not is_whole(hidden):
        raise InputError(
            f"lenet hidden is {hidden!r}; it must be a whole number of at least 1."
        )
    return cnn(channels, 5, "valid", hidden, conv)
