"""GLUE's eight tasks and their official files (Wang et al. 2019, arXiv:1804.07461).

A file is a table with tabs between its columns and a header, but for CoLA's. Quotes
mean nothing, and only a newline ends a row: texts have all other kinds of line ends.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtl_jax.types import InputError

Example = tuple[str, str | None, float]
"""First text, second text if the task is on pairs, and number of the class, or
similarity."""

MOST = 5.0
"""The highest similarity; the lowest is 0."""


class GlueTask(NamedTuple):
    """A task in the official files, and as TFDS prepares it."""

    folder: str
    columns: tuple[str, ...]
    """Columns of the one or two texts."""
    features: tuple[str, ...]
    """Names that TFDS gives them."""
    label: str
    """Its column."""
    words: tuple[str, ...] = ()
    """Names of the classes, in the order of their numbers; similarities without."""
    spelled: bool = False
    """True where the files have the words, not the numbers."""
    header: tuple[str, ...] = ()
    """Columns where the file does not name them."""
    dev: str = "dev.tsv"
    prepared: str = "validation"
    """The split that TFDS makes of that file."""
    broken: bool = False
    """True where the official files are known to have rows that are cut short."""

    @property
    def files(self) -> dict[str, str]:
        """Map our splits to official files; the official test has hidden labels."""
        return {"train": "train.tsv", "test": self.dev}


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
TASKS = {
    "cola": GlueTask(
        "CoLA",
        ("sentence",),
        ("sentence",),
        "label",
        ("unacceptable", "acceptable"),
        header=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask(
        "SST-2", ("sentence",), ("sentence",), "label", ("negative", "positive")
    ),
    "mrpc": GlueTask(
        "MRPC",
        ("#1 String", "#2 String"),
        _PAIR,
        "Quality",
        ("not_equivalent", "equivalent"),
    ),
    "stsb": GlueTask("STS-B", _PAIR, _PAIR, "score"),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        ("question1", "question2"),
        "is_duplicate",
        ("not_duplicate", "duplicate"),
        broken=True,
    ),
    "mnli": GlueTask(
        "MNLI",
        _PAIR,
        ("premise", "hypothesis"),
        "gold_label",
        ("entailment", "neutral", "contradiction"),
        spelled=True,
        dev="dev_matched.tsv",
        prepared="validation_matched",
    ),
    "qnli": GlueTask(
        "QNLI",
        ("question", "sentence"),
        ("question", "sentence"),
        "label",
        _ENTAILMENT,
        spelled=True,
    ),
    "rte": GlueTask("RTE", _PAIR, _PAIR, "label", _ENTAILMENT, spelled=True),
}
"""The tasks with enough examples to learn from: all but WNLI."""
EXAMPLES = {
    "cola": (8_551, 1_043),
    "sst2": (67_349, 872),
    "mrpc": (3_668, 408),
    "stsb": (5_749, 1_500),
    "qqp": (363_846, 40_430),
    "mnli": (392_702, 9_815),
    "qnli": (104_743, 5_463),
    "rte": (2_490, 277),
}
"""Examples of the official train and dev files, as TFDS counts them."""


def read(path: Path, task: GlueTask) -> tuple[list[Example], int]:
    """Read a file of a task: its examples, and how many broken rows were left out.

    Texts come without white space at their ends, as RoBERTa was fine-tuned (SST-2 has
    a space at the end of most). Empty lines are nothing.

    Raises:
      InputError: the file cannot be read, or a row is not what it should be.
    """
    lines = _lines(path)
    header = task.header or tuple(next(lines, (0, ""))[1].split("\t"))
    texts = [_place(path, header, column) for column in task.columns]
    label = _place(path, header, task.label)
    examples, left_out = [], 0
    for number, line in lines:
        row = line.split("\t")
        if task.broken and len(row) < len(header):
            left_out += 1
            continue
        if len(row) != len(header):
            raise InputError(
                f"{path} has {len(row)} columns in line {number}, expected "
                f"{len(header)}: {', '.join(header)}; put the official file there"
            )
        first, second = [*(row[place].strip() for place in texts), None][:2]
        value = _value(f"{path}, line {number},", task, row[label].strip())
        examples.append((first, second, value))
    return examples, left_out


def check(where: str, task: GlueTask, value: float) -> float:
    """Return the number of a class or a similarity if it is one."""
    most = len(task.words) - 1 if task.words else MOST
    if not 0 <= value <= most or (task.words and value != int(value)):
        raise _unknown(where, task, f"{value:g}")
    return value


def _value(where: str, task: GlueTask, word: str) -> float:
    if task.spelled:
        if word not in task.words:
            raise _unknown(where, task, word)
        return float(task.words.index(word))
    try:
        return check(where, task, float(word))
    except ValueError:
        raise _unknown(where, task, word) from None


def _unknown(where: str, task: GlueTask, value: str) -> InputError:
    known = f"a similarity of 0 to {MOST:g}"
    if task.words:
        words = task.words if task.spelled else map(str, range(len(task.words)))
        known = f"one of {', '.join(words)}"
    return InputError(
        f"{where} has the {task.label} {value[:80]!r}, expected {known}; get the "
        "official data (test files have no labels)"
    )


def _place(path: Path, header: tuple[str, ...], column: str) -> int:
    """The place of a column among all."""
    if column not in header:
        columns = ", ".join(header)[:200]
        raise InputError(
            f"{path} has no column {column!r} in its header ({columns}); put the "
            "official file there"
        )
    return header.index(column)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not empty, without a byte order mark."""
    try:
        with path.open("rb") as file:  # a text file would end lines elsewhere, too
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                text = text.rstrip("\n").removesuffix("\r")
                if text:
                    yield number, text
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); make it readable"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 in line {number} ({error.reason}); put the official "
            "file there"
        ) from error
