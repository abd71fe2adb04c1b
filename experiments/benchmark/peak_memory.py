"""Memory of W3: what a peer's Gramian adds to the peak of a process of its own.

python -m experiments.benchmark.peak_memory NAME
"""

import resource
import sys
from collections.abc import Callable
from typing import Any

from .factor_peers import w3_gram
from .factor_workloads import w3_inputs


def _resident() -> float:
    """Resident megabytes of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def megabytes(run: Callable[[], Any]) -> float:
    """Measure what a call adds to the peak of this process, a fresh one."""
    before = _resident()
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before


if __name__ == "__main__":
    print(megabytes(w3_gram(sys.argv[1], **w3_inputs())))
