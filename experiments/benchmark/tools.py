"""Other tools that the benchmark runs, and the modules that each of them needs."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple


class Tool(NamedTuple):
    """A way of running a workload."""

    needs: tuple[str, ...]  # modules it imports
    remark: str


TOOLS = {
    "torch_plain": Tool(("torch",), "default layout and Adam"),
    "torch_tuned": Tool(("torch",), "channels_last, fused Adam"),
    "libmtl": Tool(("torch",), "LibMTL 1.1.5's sequence of operations, reproduced"),
    "torchjd": Tool(("torch", "torchjd"), "fastest: jac task by task, channels_last"),
    "torchjd_tuned": Tool(("torch", "torchjd"), "mtl_backward, channels_last"),
    "torchjd_autogram": Tool(("torch", "torchjd"), "Engine, Gramian without Jacobian"),
    "pyhessian": Tool(("torch", "pyhessian"), "default layout"),
    "pyhessian_tuned": Tool(("torch", "pyhessian"), "channels_last"),
    "backpack": Tool(("torch", "backpack"), "BatchL2Grad"),
    "torch_func": Tool(("torch",), "vmap(grad), 128 examples at once"),
}


def missing(tool: Tool, solver: Sequence[str] = ()) -> list[str]:
    """List modules that a tool and a solver need and that are not installed."""
    return [name for name in (*tool.needs, *solver) if find_spec(name) is None]
