"""Compiled programs, read from XLA's text: what a device runs, how often, on how much.

The text is that of ``compiled.as_text()``, after all of XLA's passes, so an instruction
that is no mere name for another is a kernel (or a copy, or a library's call).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

SHAPE = re.compile(r"\b(pred|[a-z]+?)(\d*)(?:e\d\w*)?\[([\d,]*)\]")
"""Type, bits and sides of an array."""
BITS = {"pred": 8, "token": 0}
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
TRIPS = re.compile(r'known_trip_count"?\s*:\s*\{\s*"?n"?\s*:\s*"?(\d+)')
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
PLACE = re.compile(r"S\(\d+\)")
"""Memory that an array lies in, where it is not the device's main memory."""
NAMES = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "optimization-barrier", "opt-barrier"),
}
"""Instructions that do nothing on a device."""
REARRANGED = {"copy", "transpose", "bitcast", "reshape", "convert", *NAMES}
"""Instructions of a fusion that only rearranges."""
PIECES = {"dynamic-slice", "slice", "gather"}
PRODUCTS = {"convolution", "dot"}
LIBRARY_PRODUCTS = re.compile(r"cublas|cudnn|gemm|conv", re.IGNORECASE)
COLLECTIVES = {
    *("all-reduce", "all-gather", "reduce-scatter", "collective-permute"),
    *("all-to-all", "ragged-all-to-all", "collective-broadcast"),
}
HOST = {"infeed", "outfeed", "send", "recv"}


class Instruction(NamedTuple):
    """An instruction of a computation."""

    name: str
    shape: str
    """Type, sides and layout of its result."""
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    """All that stands behind its opcode."""

    def called(self, role: str) -> str | None:
        """Return the name of the computation in a role, such as ``body``."""
        match = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        return match and match[1]

    @property
    def target(self) -> str:
        """Function that a custom call calls; empty for none."""
        match = re.search(r'custom_call_target="([^"]+)"', self.attributes)
        return match[1] if match else ""


Computation = Mapping[str, Instruction]
"""Instructions by their names, in order."""


class Kernel(NamedTuple):
    """Work that a device does as one."""

    instruction: Instruction
    times: int
    """Number of its runs; a loop of unknown length counts as one round."""
    bytes: int
    """Read and written, once."""
    opcodes: frozenset[str]
    """Opcodes of all that is in it."""
    in_open_loop: bool = False
    """True in a loop of unknown length, such as that over steps."""

    @property
    def is_product(self) -> bool:
        """Return whether it multiplies matrices, or convolves."""
        library = LIBRARY_PRODUCTS.search(self.instruction.target)
        return bool(self.opcodes & PRODUCTS or library)

    @property
    def is_rearrangement(self) -> bool:
        """Return whether it only copies or transposes within a memory."""
        opcode = self.instruction.opcode
        if opcode == "copy-start":
            destination, source = _parts(self.instruction.shape)[:2]
            return _place_free(destination) != _place_free(source)
        moves = self.opcodes & {"copy", "transpose"}
        return bool(moves) and self.opcodes <= REARRANGED

    @property
    def is_collective(self) -> bool:
        """Return whether it talks to other devices."""
        return self.instruction.opcode.removesuffix("-start") in COLLECTIVES

    @property
    def is_of_host(self) -> bool:
        """Return whether it talks to the host."""
        host = "callback" in self.instruction.target or "MoveTo" in (
            self.instruction.target
        )
        return host or self.instruction.opcode.removesuffix("-start") in HOST

    @property
    def cycles(self) -> int:
        """Return the cycles that a TPU's compiler expects; 0 where it says nothing."""
        match = CYCLES.search(self.instruction.attributes)
        return int(match[1]) if match else 0


def size(shape: str) -> int:
    """Return the bytes of a shape, or of all in a tuple.

    >>> size("(f32[2,3]{1,0}, pred[4]{0}, s32[])")
    32
    """
    total = 0
    for kind, bits, sides in SHAPE.findall(shape):
        count = 1
        for side in filter(None, sides.split(",")):
            count *= int(side)
        total += count * int(BITS.get(kind, bits or 0)) // 8
    return total


Choose = Callable[..., list[Kernel]]
"""``min`` or ``max``: which branch of a choice is counted."""


def kernels(text: str, choose: Choose = max) -> list[Kernel]:
    """Read the kernels of a compiled program, in the order in which they begin.

    Args:
      text: of ``compiled.as_text()``.
      choose: ``max`` counts the longest branch of every choice, ``min`` the shortest.
    """
    computations, entry = _parse(text)
    return list(_executed(computations, entry, 1, choose))


def _parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] | None = None
    entry = ""
    for line in text.splitlines():
        head = COMPUTATION.match(line)
        if head and "=" not in line.split("(")[0]:
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := INSTRUCTION.match(line)):
            instruction = _instruction(match[1], match[2])
            current[instruction.name] = instruction
    return computations, entry


def _instruction(name: str, text: str) -> Instruction:
    end = _close(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end].strip(), text[end:].strip()
    opcode, _, rest = rest.partition("(")
    end = _close(f"({rest}") - 1
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[:end]))
    return Instruction(name, shape, opcode, operands, rest)


def _close(text: str) -> int:
    """Place behind the parenthesis that closes the first."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place + 1
    return len(text)


def _parts(shape: str) -> list[str]:
    """Arrays of a tuple, with their layouts."""
    arrays = re.findall(r"[a-z]+\d*(?:e\d\w*)?\[[\d,]*\](?:\{[^}]*\})?", shape)
    return [*arrays, "", ""]


def _place_free(shape: str) -> str:
    return PLACE.sub("", shape)


def _executed(
    computations: Mapping[str, Computation], name: str, times: int, choose: Choose
) -> Iterator[Kernel]:
    computation = computations.get(name, {})
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode in NAMES or opcode.endswith(("-done", "-update")):
            continue
        if opcode == "while":
            rounds = _rounds(computations, instruction)
            for role in ("body", "condition"):
                called = instruction.called(role) or ""
                inside = _executed(computations, called, times * (rounds or 1), choose)
                for kernel in inside:
                    is_open = kernel.in_open_loop or rounds is None
                    yield kernel._replace(in_open_loop=is_open)
        elif opcode == "conditional":
            branches = [
                list(_executed(computations, branch, times, choose))
                for branch in _branches(instruction)
            ]
            yield from choose(branches, key=len, default=[])
        elif opcode == "call":
            called = instruction.called("to_apply") or ""
            yield from _executed(computations, called, times, choose)
        else:
            yield _kernel(computations, computation, instruction, times)


def _rounds(computations: Mapping[str, Computation], loop: Instruction) -> int | None:
    """Rounds of a loop if it counts from 0 to a number; None where nobody knows."""
    if known := TRIPS.search(loop.attributes):
        return int(known[1])
    condition = computations.get(loop.called("condition") or "", {})
    *_, root = condition.values()
    limits = [condition[name] for name in root.operands]
    if root.opcode == "fusion":
        inner = computations[root.called("calls") or ""].values()
        limits += inner
        *_, root = inner
    if root.opcode != "compare" or "direction=LT" not in root.attributes:
        return None
    numbers = [
        int(match[1])
        for limit in limits
        if limit.opcode == "constant"
        and (match := re.match(r"(\d+)\)", limit.attributes))
    ]
    return numbers[0] if numbers else None


def _branches(instruction: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    if listed:
        return [name.strip().lstrip("%") for name in listed[1].split(",")]
    roles = "true_computation", "false_computation"
    return [name for role in roles if (name := instruction.called(role))]


def _kernel(
    computations: Mapping[str, Computation],
    computation: Computation,
    instruction: Instruction,
    times: int,
) -> Kernel:
    operands = [computation[name] for name in instruction.operands]
    called = instruction.called("calls")
    inner = computations.get(called or "", {})
    if not inner:
        written = size(instruction.shape)
        read = sum(size(operand.shape) for operand in operands)
        total = written + (written if instruction.opcode in PIECES else read)
        return Kernel(instruction, times, total, frozenset([instruction.opcode]))
    total = _written(inner) + sum(_read(inner))
    return Kernel(instruction, times, total, _opcodes(computations, inner))


def _opcodes(
    computations: Mapping[str, Computation], inner: Computation
) -> frozenset[str]:
    opcodes = set()
    for instruction in inner.values():
        opcodes.add(instruction.opcode)
        nested = computations.get(instruction.called("calls") or "", {})
        opcodes |= {other.opcode for other in nested.values()}
    return frozenset(opcodes - {"fusion"})


def _read(inner: Computation) -> Iterator[int]:
    """Bytes that a fusion reads of each parameter: where pieces are taken, the pieces.

    What is updated in place is not read.
    """
    users: dict[str, list[Instruction]] = {}
    for instruction in inner.values():
        for place, name in enumerate(instruction.operands):
            if not (instruction.opcode == "dynamic-update-slice" and place == 0):
                users.setdefault(name, []).append(instruction)
    for parameter in inner.values():
        if parameter.opcode != "parameter":
            continue
        of_it = users.get(parameter.name, [])
        pieces = sum(size(user.shape) for user in of_it if user.opcode in PIECES)
        whole = any(user.opcode not in PIECES for user in of_it)
        yield size(parameter.shape) if whole else min(pieces, size(parameter.shape))


def _written(inner: Computation) -> int:
    """Bytes that a fusion writes: of what it updates in place, the update."""
    *_, root = inner.values()
    roots = [inner[n] for n in root.operands] if root.opcode == "tuple" else [root]
    total = 0
    for instruction in roots:
        if instruction.opcode == "dynamic-update-slice":
            instruction = inner[instruction.operands[1]]
        total += size(instruction.shape)
    return total
