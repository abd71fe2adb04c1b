"""Groups of tasks that train together, and the task among them that is the target.

A group is written as its tasks: ``a+b`` train together and all of them count;
``a/b+c`` is the target ``a`` with the auxiliary tasks ``b`` and ``c``. Several at once:
``pairs`` (of all tasks), ``a/each`` (every other task alone), ``a/all`` (all others
together) and ``a/random``: sets of other tasks, drawn as `Draw` says, of which
``a/9.2`` is the second of 9 tasks.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.options import check_items, closest, did_you_mean, is_whole
from mtl_jax.types import AUXILIARIES, GROUP, JOIN, Config, InputError

SINGLE = "single"
"""The method that trains tasks alone."""
WITH = "-"
"""In front of a multi-task optimizer: ``multi-cagrad``, and of tasks alone
``single-fmtl``, which is sharpness-aware minimisation."""
PAIRS, EACH, ALL, RANDOM = "pairs", "each", "all", "random"
DRAWN = re.compile(r"(\d+)\.(\d+)")


class Group(NamedTuple):
    """Tasks that train together."""

    name: str
    """As above, of one group."""
    tasks: tuple[int, ...]
    """Their numbers; the target, if there is one, is the first."""
    has_target: bool

    def text(self, tasks: Sequence[str]) -> str:
        """Return the names of its tasks, the target before a slash."""
        chosen = [tasks[number] for number in self.tasks]
        if not self.has_target:
            return JOIN.join(chosen)
        return chosen[0] + AUXILIARIES + JOIN.join(chosen[1:])

    def target(self, tasks: Sequence[str]) -> str:
        """Return the name of its target, empty if all tasks count."""
        return tasks[self.tasks[0]] if self.has_target else ""


class Label(NamedTuple):
    """Name of a run in the records."""

    variant: str
    """Method and, behind a colon, the group of tasks if it is not all of them."""
    number: int
    """Number of the run, among those of its variant."""
    group: str = ""
    """Tasks of the group, as `Group.text`; empty of all and of single tasks."""
    target: str = ""
    """The task that counts; empty where all do."""


class Draw(NamedTuple):
    """Random sets of auxiliary tasks: ``sets`` of every size, all different."""

    sizes: tuple[int, ...]
    sets: int
    seed: int


def make_draw(fields: Config) -> Draw:
    """Resolve ``config.groups``.

    Raises:
      InputError: a value out of its range.
    """
    rule = "name at least one whole number above 0, each once"
    check_items("groups.sizes", fields.sizes, is_whole, rule)
    for name, least in (("sets", 1), ("seed", 0)):
        if not is_whole(fields[name], least=least):
            raise InputError(
                f"groups.{name} is {fields[name]!r}; it must be a whole number, at "
                f"least {least}."
            )
    return Draw(tuple(fields.sizes), fields.sets, fields.seed)


def parse(text: str, tasks: Sequence[str], draw: Draw) -> list[Group]:
    """Return the groups that a text names.

    >>> tasks, draw = ("a", "b", "c"), Draw(sizes=(1,), sets=2, seed=0)
    >>> [group.name for group in parse("pairs", tasks, draw)]
    ['a+b', 'a+c', 'b+c']
    >>> parse("c/a+b", tasks, draw)
    [Group(name='c/a+b', tasks=(2, 0, 1), has_target=True)]
    >>> [(group.name, group.text(tasks)) for group in parse("a/random", tasks, draw)]
    [('a/1.1', 'a/c'), ('a/1.2', 'a/b')]

    Raises:
      InputError: an unknown task, or one twice; fewer than two tasks; more auxiliary
        tasks than there are.
    """
    if text == PAIRS:
        numbers = range(len(tasks))
        return [_group(pair, tasks) for pair in itertools.combinations(numbers, 2)]
    first, slash, rest = text.partition(AUXILIARIES)
    if not slash:
        return [_group(_numbers(text, first, tasks), tasks)]
    target = _number(text, first, tasks)
    others = [number for number in range(len(tasks)) if number != target]
    if rest == EACH:
        return [_group((target, other), tasks, target=True) for other in others]
    if rest == ALL:
        return [Group(text, (target, *others), True)]
    if rest == RANDOM:
        return [
            group for size in draw.sizes for group in _drawn(target, size, tasks, draw)
        ]
    if (match := DRAWN.fullmatch(rest)) and rest not in tasks:
        size, place = map(int, match.groups())
        sets = _drawn(target, size, tasks, draw)
        if not 1 <= place <= len(sets):
            raise InputError(
                f"group {text!r}: of {size} auxiliary tasks {len(sets)} sets are "
                f"drawn; name one of 1 to {len(sets)}, or raise groups.sets."
            )
        return [sets[place - 1]]
    auxiliaries = _numbers(text, rest, tasks)
    if target in auxiliaries:
        raise InputError(
            f"group {text!r} has {first!r} as its target and as an auxiliary task; "
            f"name each task once."
        )
    return [_group((target, *auxiliaries), tasks, target=True)]


def single(text: str, tasks: Sequence[str]) -> list[Group]:
    """Return the tasks that a text names, ``a+b``, each alone; all for no text.

    Raises:
      InputError: as `parse`.
    """
    numbers = _numbers(text, text, tasks) if text else tuple(range(len(tasks)))
    return [Group(tasks[number], (number,), False) for number in numbers]


def is_single(variant: str) -> bool:
    """Tell whether a variant, with an optimizer or without, trains tasks alone.

    >>> is_single("single-fmtl@rho=0.05:a"), is_single("single:a"), is_single("multi")
    (True, True, False)
    """
    return variant.partition(GROUP)[0].partition(WITH)[0] == SINGLE


def members(
    chosen: Iterable[str], tasks: Sequence[str], draw: Draw
) -> Iterator[tuple[str, Group]]:
    """Yield the methods and groups of tasks that variants name.

    Raises:
      InputError: a group twice, or as `parse`.
    """
    seen = set()
    for name in chosen:
        method, _, text = name.partition(GROUP)
        if is_single(method):
            of_name = single(text, tasks)
        elif text:
            of_name = parse(text, tasks, draw)
        else:
            of_name = [Group("", tuple(range(len(tasks))), False)]
        for group in of_name:
            if (method, group.name) in seen:
                raise InputError(
                    f"variants name {method}{GROUP}{group.name} twice; name it once."
                )
            seen.add((method, group.name))
            yield method, group


def labels(
    members: Sequence[tuple[str, Group]], tasks: Sequence[str]
) -> tuple[Label, ...]:
    """Name runs, from the method and the group of tasks of each."""
    named: list[Label] = []
    count: Counter[str] = Counter()
    for method, group in members:
        if is_single(method) or not group.name:
            label = Label(method, 0)
        else:
            name = f"{method}{GROUP}{group.name}"
            label = Label(name, 0, group.text(tasks), group.target(tasks))
        named.append(label._replace(number=count[label.variant]))
        count[label.variant] += 1
    return tuple(named)


def _group(
    numbers: tuple[int, ...], tasks: Sequence[str], target: bool = False
) -> Group:
    """A group whose name is its text."""
    if len(numbers) == 1:
        alone = tasks[numbers[0]]
        raise InputError(
            f"group {alone!r} has one task; name those that train with it, "
            f"{alone}/OTHER, or the variant {SINGLE}{GROUP}{alone}."
        )
    group = Group("", numbers, target)
    return group._replace(name=group.text(tasks))


def _drawn(target: int, size: int, tasks: Sequence[str], draw: Draw) -> list[Group]:
    """Sets of ``size`` other tasks, in the order in which they are drawn."""
    others = [number for number in range(len(tasks)) if number != target]
    if size > len(others):
        raise InputError(
            f"groups.sizes holds {size}, and {tasks[target]!r} has {len(others)} other "
            f"tasks; choose at most that."
        )
    rng = np.random.default_rng([draw.seed, target, size])
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < min(draw.sets, math.comb(len(others), size)):
        chosen = rng.choice(others, size, replace=False)
        drawn[tuple(sorted(chosen.tolist()))] = None
    return [
        Group(f"{tasks[target]}{AUXILIARIES}{size}.{place}", (target, *chosen), True)
        for place, chosen in enumerate(drawn, start=1)
    ]


def _numbers(text: str, names: str, tasks: Sequence[str]) -> tuple[int, ...]:
    """Numbers of tasks that are joined by a plus, in order."""
    numbers = [_number(text, name, tasks) for name in names.split(JOIN)]
    for number in numbers:
        if numbers.count(number) > 1:
            raise InputError(
                f"group {text!r} has {tasks[number]!r} twice; name each task once."
            )
    return tuple(sorted(numbers))


def _number(text: str, name: str, tasks: Sequence[str]) -> int:
    if name not in tasks:
        raise InputError(
            f"group {text!r} has no task {name!r}; the tasks are {', '.join(tasks)}"
            f"{did_you_mean(closest(name, tasks))}"
        )
    return list(tasks).index(name)
