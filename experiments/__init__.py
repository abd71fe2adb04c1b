"""Entry points: they parse flags and make one call."""
