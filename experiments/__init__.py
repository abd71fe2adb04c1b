"""Entry points: they parse flags and make one call."""

import time

STARTED = time.monotonic()
"""Time of the monotonic clock before the imports that take long."""
