"""``python -m experiments``: the program ``mtl-jax`` of a checkout."""

from .dispatch import main

main()
