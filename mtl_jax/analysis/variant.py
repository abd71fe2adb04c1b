"""Names of variants: a method and, behind a colon, the group of tasks it trains."""

import re

from mtl_jax.types import GROUP, OPTION

MERGED = "merged-"
"""In front of the names of models that are merged, not trained."""
RAY = re.compile(rf"{OPTION}(?:preference|weights)=[^{OPTION}{GROUP}]*")
"""Part of a name that says how much every task counts."""


def method_of(variant: str) -> str:
    """Return the method of a variant, without its group.

    >>> method_of("multi:fish/9.2"), method_of("multi-pcgrad")
    ('multi', 'multi-pcgrad')
    """
    return variant.partition(GROUP)[0]


def group_of(variant: str) -> str:
    """Return the group of tasks that a variant names; empty for all of them.

    >>> group_of("multi:fish/9.2"), group_of("multi-pcgrad")
    ('fish/9.2', '')
    """
    return variant.partition(GROUP)[2]


def same_group(variant: str, method: str) -> str:
    """Name the variant of another method that trains the same group of tasks.

    >>> same_group("multi-pcgrad:a/b", "multi"), same_group("multi-pcgrad", "multi")
    ('multi:a/b', 'multi')
    """
    return method + variant.removeprefix(method_of(variant))


def family_of(variant: str) -> str:
    """Return the name of a variant without how much every task counts.

    >>> family_of("multi-pbi@preference=1.0/0.0@theta=5.0:a+b"), family_of("multi")
    ('multi-pbi@theta=5.0:a+b', 'multi')
    """
    return RAY.sub("", variant)


def ray_of(variant: str) -> str:
    """Return how much every task counts; empty where a name does not say.

    >>> ray_of("multi-pbi@preference=1.0/0.0@theta=5.0:a+b"), ray_of("multi")
    ('1.0/0.0', '')
    """
    match = RAY.search(variant)
    return match[0].partition("=")[2] if match else ""
