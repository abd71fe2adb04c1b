"""The report of a training run: one HTML page, and its figures as PNG and SVG.

`write` reads a workdir, finished or not, and leaves ``report/index.html`` in it, which
opens from disk and needs no network. Several workdirs make one page with a section for
each and averages over settings.
"""

from mtl_jax.report.page import write
from mtl_jax.report.watch import watch

__all__ = ["watch", "write"]
