"""Fashion MTL: one ten-way problem on two disjoint random halves of Fashion-MNIST."""

from typing import Any

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config: Any = default.get_config()
    config.setting = "fashion_mtl"
    return config
