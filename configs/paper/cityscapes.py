"""Table 1 and figures 2 and 4 on Cityscapes: segmentation and depth of one image.

  mtl-jax reproduce --config=paper/cityscapes:paper --config.data.dir=DATA --workdir=DIR

With the paper's ResNet-101 and Sener & Koltun's preparation; pass the ImageNet weights:
--config.studies.cityscapes.base.model.weights=resnet101.safetensors. Small budgets take
images of 32x64 pixels and a narrow network from scratch.
"""

from ml_collections import ConfigDict

from .. import cityscapes
from . import protocol

VARIANTS = ("single", "multi", *protocol.OPTIMIZERS)


def get_config(budget: str = "small") -> ConfigDict:
    is_paper = budget == "paper"
    base = cityscapes.get_config("paper" if is_paper else "kurin")
    epochs = 100.0 if is_paper else 4.0
    study = protocol.study(base, budget, VARIANTS, epochs=epochs, spacing=1.0)
    if not is_paper:
        base.data.size = (32, 64)
        base.model.deeplab.widths = (8, 16, 16, 16)
        base.model.deeplab.blocks = (1, 1, 1, 1)
        base.model.deeplab.channels = 16
        protocol.one_candidate(study, "adam", 5e-4, 32)
    names = ("table_1", "figure_2", "figure_4")
    return protocol.experiment(names, {"cityscapes": study})
