"""mtl_jax: what training tasks together does to the way each is optimised."""
