"""``python -m experiments.benchmark``: the command of a checkout."""

from .. import entry
from . import __doc__ as doc
from . import benchmark

entry.main(benchmark, str(doc))
