"""GLUE: tasks on sentences and pairs of them (Wang et al. 2019, arXiv:1804.07461).

Assumption: every task's official dev set is for testing, as labels of the official test
sets are hidden; MNLI's is the matched one. WNLI is left out, as is usual.
"""

import functools

import numpy as np

from mtl_jax.data import cache, glue_source, tokens
from mtl_jax.data import source as sources
from mtl_jax.data.dataset import Dataset
from mtl_jax.data.glue_files import TASKS, Example
from mtl_jax.objectives.label_words import LABEL_WORDS
from mtl_jax.options import some_of
from mtl_jax.types import InputError

HELD_OUT = 1_000
"""Examples for validation, at most; a tenth of the official train split if fewer."""
LENGTHS = (8, 512)
"""Tokens that an example may have: room for a pair, and what RoBERTa has places for."""
HEADS = {"cola": "softmax_matthews", "mrpc": "softmax_f1", "qqp": "softmax_f1"}
"""Objectives of tasks with heads; that of the others is softmax."""
WORDS = {
    "cola": "words_matthews",
    "mrpc": "words_equivalent",
    "qqp": "words_duplicate",
    "stsb": "words_similarity",
}
"""Objectives of tasks that answer in words; that of the others is words."""
PROMPTS = {
    "cola": "cola sentence: {0}",
    "sst2": "sst2 sentence: {0}",
    "mrpc": "mrpc sentence1: {0} sentence2: {1}",
    "stsb": "stsb sentence1: {0} sentence2: {1}",
    "qqp": "qqp question1: {0} question2: {1}",
    "mnli": "mnli hypothesis: {1} premise: {0}",
    "qnli": "qnli question: {0} sentence: {1}",
    "rte": "rte sentence1: {0} sentence2: {1}",
}
"""Texts that hold both and name their task (Raffel et al. 2020, appendix D)."""


def load(
    directory: str = "",
    source: str = "auto",
    seed: int = 0,
    tasks: tuple[str, ...] = (),
    vocabulary: str = "",
    length: int = 128,
) -> Dataset:
    """Load tasks, a head each; ``x`` are tokens, uint16 or int32 ``[N, length]``.

    ``y`` is float32 ``[N]``: the number of a class as TFDS counts them, or STS-B's
    similarity, 0 to 5. Texts are encoded once, into the cache.

    Args:
      directory: holds the folder glue: a folder a task, with the official train.tsv and
        dev.tsv or prepared by TFDS.
      source: as in `source.images`; ``auto`` chooses for every task.
      seed: picks the validation examples out of the official train split.
      tasks: names in `glue_files.TASKS`, in this order; empty for all eight.
      vocabulary: folder of the vocabulary, as `tokens` describes it.
      length: tokens of an example; longer ones are cut, as `tokens.encode` does.

    Raises:
      DataMissing: a task or the vocabulary is not there; all are looked for first.
      InputError: a file is damaged, or an option is out of range.
    """
    names = names_of(tasks)
    objectives, widths = heads(names)
    return _load(names, directory, source, seed, vocabulary, length, {})._replace(
        objectives=objectives, widths=widths
    )


def load_text(
    directory: str = "",
    source: str = "auto",
    seed: int = 0,
    tasks: tuple[str, ...] = (),
    vocabulary: str = "",
    length: int = 128,
) -> Dataset:
    """Load tasks that answer in the same words (Mueller, Dredze & Andrews 2022).

    As `load`, but a text begins with its task and holds both sentences, as T5's does,
    and ``y`` is int32 ``[N]``, the number of the right word in
    `label_words.LABEL_WORDS`. Similarities are rounded to the nearest fifth, as T5's
    are.

    Assumption: an encoder chooses the word where T5's decoder would spell it.
    """
    names = names_of(tasks)
    dataset = _load(names, directory, source, seed, vocabulary, length, PROMPTS)
    y = np.empty(len(dataset.y), np.int32)
    for task, name in enumerate(names):
        of_task = np.concatenate([rows[task] for rows in dataset.rows.values()])
        y[of_task] = _words(name, dataset.y[of_task])
    objectives, widths = words(names)
    return dataset._replace(
        y=y, objectives=objectives, widths=widths, shared_output=True
    )


def names_of(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks that are asked for; all if there are none.

    Raises:
      InputError: an unknown name.
    """
    return some_of("task of glue", tasks, TASKS) or tuple(TASKS)


def heads(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return objectives and widths of tasks that have heads of their own."""
    objectives = {"stsb": "gaussian_correlation", **HEADS}
    return (
        tuple(objectives.get(name, "softmax") for name in names),
        tuple(len(TASKS[name].words) or 1 for name in names),
    )


def words(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return objectives and widths of tasks that answer in words."""
    objectives = tuple(WORDS.get(name, "words") for name in names)
    return objectives, (len(LABEL_WORDS),) * len(names)


def held_out(train: int) -> int:
    """Return how many of so many training examples are for validation."""
    return max(1, min(HELD_OUT, train // 10))


def _load(
    names: tuple[str, ...],
    directory: str,
    source: str,
    seed: int,
    vocabulary: str,
    length: int,
    prompts: dict[str, str],
) -> Dataset:
    """Everything but objectives and widths; ``y`` are class numbers, similarities."""
    if not LENGTHS[0] <= length <= LENGTHS[1]:
        raise InputError(
            f"length is {length}; choose {LENGTHS[0]} to {LENGTHS[1]} tokens"
        )
    places = glue_source.find(directory, source, names)
    of_vocabulary = tokens.digests(vocabulary)
    rows = {"train": [], "validation": [], "test": []}
    xs, ys, origins, remarks, start = [], [], {}, [], 0
    # A generator a task, whichever are asked for: none changes another's examples.
    rngs = dict(zip(TASKS, np.random.default_rng(seed).spawn(len(TASKS)), strict=True))
    for name in names:
        file_set, prompt = places[name], prompts.get(name, "")
        digests = sources.file_digests(file_set)
        origins[name] = sources.origin(file_set, digests)
        arrays = cache.arrays(
            f"glue-{name}",
            {**digests, **of_vocabulary, "length": str(length), "prompt": prompt},
            functools.partial(_encode, file_set, vocabulary, length, prompt),
        )
        train, test = (len(arrays[f"{split}_y"]) for split in ("train", "test"))
        deck = start + rngs[name].permutation(train).astype(np.int32)
        rows["train"].append(deck[held_out(train) :])
        rows["validation"].append(deck[: held_out(train)])
        start += train
        rows["test"].append(np.arange(start, start + test, dtype=np.int32))
        start += test
        xs += [arrays["train_x"], arrays["test_x"]]
        ys += [arrays["train_y"], arrays["test_y"]]
        remarks += _remarks(name, arrays, length)
    origins["vocabulary"] = {
        "kind": "files",
        "folder": str(tokens.place(vocabulary).absolute()),
        "files": of_vocabulary,
    }
    return Dataset(
        tasks=names,
        x=np.concatenate(xs),
        y=np.concatenate(ys),
        rows={split: tuple(parts) for split, parts in rows.items()},
        objectives=(),
        widths=(),
        provenance={"sources": origins, "seed": seed, "remarks": remarks},
    )


def _encode(
    file_set: sources.FileSet, vocabulary: str, length: int, prompt: str
) -> cache.Arrays:
    """Tokens and targets of both splits, and how many broken rows were left out."""
    tokenizer = tokens.read(vocabulary)
    arrays, left_out = {}, 0
    for split in file_set.files:
        examples, broken = glue_source.examples(file_set, split)
        texts = [_text(example, prompt) for example in examples]
        arrays[f"{split}_x"] = tokens.encode(tokenizer, texts, length)
        arrays[f"{split}_y"] = np.array([label for *_, label in examples], np.float32)
        left_out += broken
    return {**arrays, "left_out": np.array([left_out])}


def _text(example: Example, prompt: str) -> tokens.Text:
    first, second, _ = example
    if prompt:
        return prompt.format(first, second)
    return first if second is None else (first, second)


def _remarks(name: str, arrays: cache.Arrays, length: int) -> list[str]:
    """Say what is not as in the files."""
    remarks = []
    full = np.count_nonzero(arrays["train_x"][:, -1] != tokens.PAD)
    if full:
        remarks.append(
            f"{name}: {full} of {len(arrays['train_x'])} training examples fill all "
            f"{length} tokens; what was longer is cut"
        )
    (left_out,) = arrays["left_out"].tolist()
    if left_out:
        remarks.append(
            f"{name}: {left_out} rows of the official files are cut short and left out"
        )
    return remarks


def _words(name: str, y: np.ndarray) -> np.ndarray:
    """Numbers of the words for class numbers or similarities, int32 ``[n]``."""
    words = TASKS[name].words
    if not words:
        words, y = [f"{fifth / 5:.1f}" for fifth in range(26)], np.round(5 * y)
    return np.array([LABEL_WORDS[w] for w in words], np.int32)[y.astype(np.int32)]
