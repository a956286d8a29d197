"""What the text of a compiled program says: its instructions, and the bytes that they read and write."""

from __future__ import annotations

import dataclasses
import math
import re

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
_ATTRIBUTES = re.compile(r"\), \w+=")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\](\{[^}]*\})?")
_FAST = re.compile(r"S\([1-9]\d*\)")  # A memory space other than the device's main memory.
# They name what is in memory already.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
_COLLECTIVES = re.compile(r"(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+)(-start)?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line; ``arrays`` has the elements of every array of the result, and its bytes in main memory."""

    name: str
    kind: str
    arrays: tuple[tuple[int, int], ...]
    operands: tuple[str, ...]
    scope: str  # Where in the source it comes from, by the names of functions and scopes.
    entry: (
        bool  # Whether it is of the entry computation; others are within a fusion, a loop or a reduction.
    )

    def is_as_large_as(self, elements: int) -> bool:
        """Whether one of its arrays has as many elements."""
        return any(count >= elements for count, _ in self.arrays)


def instructions(text: str) -> list[Instruction]:
    """Those of all computations of a program."""
    found, entry = [], False
    for line in text.splitlines():
        if line.startswith(("ENTRY", "%", "}")):
            entry = line.startswith("ENTRY")
        if parsed := _INSTRUCTION.match(line):
            name, type_, kind, rest = parsed.groups()
            operands = re.findall(r"%([\w.-]+)", _ATTRIBUTES.split(rest)[0])
            scope = "".join(_SCOPE.findall(rest))
            found.append(Instruction(name, kind, _arrays(type_), tuple(operands), scope, entry))
    return found


def _arrays(type_: str) -> tuple[tuple[int, int], ...]:
    found = []
    for name, bits, shape, layout in _ARRAY.findall(type_):
        count = math.prod(int(length) for length in shape.split(",") if length)
        bytes_ = 1 if name == "pred" else -(-int(bits) // 8)
        found.append((count, 0 if _FAST.search(layout) else count * bytes_))
    return tuple(found)


def bytes_moved(program: list[Instruction]) -> int:
    """Bytes of main memory that the entry computation's instructions read and write, each operand once."""
    entry = [one for one in program if one.entry]
    sizes = {one.name: sum(size for _, size in one.arrays) for one in entry}
    total = 0
    for one in entry:
        if one.kind in _FREE or one.kind.endswith("-done"):
            continue
        # What starts a copy names its source among its results, too.
        written = one.arrays[0][1] if one.kind == "copy-start" else sizes[one.name]
        total += written + sum(sizes[name] for name in set(one.operands) if name in sizes)
    return total


def relayouts(program: list[Instruction], elements: int) -> list[str]:
    """Copies and transposes of arrays of at least so many elements, within fusions too."""
    kinds = ("copy", "transpose", "reshape")
    return [one.name for one in program if one.kind in kinds and one.is_as_large_as(elements)]


def collectives(program: list[Instruction], elements: int = 0) -> list[str]:
    """What devices exchange in arrays of at least so many elements."""
    matches = [(one, _COLLECTIVES.fullmatch(one.kind)) for one in program]
    return [match[1] for one, match in matches if match and one.is_as_large_as(elements)]


def loops(program: list[Instruction]) -> int:
    """How many serial loops there are."""
    return sum(one.kind == "while" for one in program)


def results(program: list[Instruction], elements: int) -> list[str]:
    """What makes an array of exactly so many elements."""
    return [
        one.name
        for one in program
        if one.kind not in _FREE and any(count == elements for count, _ in one.arrays)
    ]
