"""Cityscapes: 7-class segmentation and inverse depth of one image, on a DeepLabV3.

  mtl-jax train --config=cityscapes --config.data.dir=DATA --workdir=runs/cityscapes

cityscapes:paper is nearer to the paper: ResNet-101, images of 256x512, and depths that
are standardised as Sener & Koltun (2018) do. With ImageNet's weights, from torchvision:
--config.model.weights=resnet101.safetensors.

For accelerators. DATA/cityscapes holds the official leftImg8bit, gtFine and disparity;
the first start takes them down to 128x256, once. All 19 classes:
--config.data.classes=19.

After Kurin et al. (2022): Adam at 5e-4, batches of 32, 100 epochs, no augmentation.
Their test scores with the sum of losses: mean IoU .7012, pixel accuracy .9196, absolute
error of the inverse depth .0130. Assumptions: the 595 images for validation are drawn
at random (theirs are the last of the list), depth is as in mtl_jax/data/cityscapes.py,
and there is no weight decay (they add 1e-5 of L2 to the sum of losses).
"""

from typing import Any

from ml_collections import ConfigDict

from mtl_jax.options import one_of

from . import default

PREPARATIONS = ("kurin", "paper")


def get_config(preparation: str = "kurin") -> ConfigDict:
    one_of("preparation of cityscapes", preparation, PREPARATIONS)
    config: Any = default.get_config()
    config.setting = "cityscapes"
    config.data.classes = 7  # 7 | 19
    config.data.size = (128, 256)  # height, width
    config.data.depth = "inverse"  # inverse | standardised
    config.model.name = "deeplab"
    config.model.deeplab.widths = (64, 128, 256, 512)
    config.model.deeplab.blocks = (3, 4, 6, 3)
    config.model.deeplab.channels = 256
    config.learning_rates = (5e-4,)
    config.batch_size = 32
    config.steps = 7_500  # 100 epochs of 75
    config.eval_batch_size = 32
    # An image is 32,768 pixels: fewer of them say as much.
    config.probe_size = 256
    config.factors.sharpness_and_covariance.batch_size = 32
    config.factors.sharpness_and_covariance.small_batch_size = 8
    config.factors.gradient_similarity.batches = 8
    config.factors.fisher_trace.batch_size = 8
    if preparation == "paper":
        config.data.size = (256, 512)
        config.data.depth = "standardised"
        config.model.deeplab.blocks = (3, 4, 23, 3)
    return config
