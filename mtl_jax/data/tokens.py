"""Texts as numbers: byte-level BPE, in the files and with the ids of RoBERTa.

A vocabulary is a folder with vocab.json and merges.txt (Radford et al. 2019; Liu et al.
2019, arXiv:1907.11692). A text becomes ``<s> a </s>``, and a pair of them
``<s> a </s></s> b </s>``.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_jax.data import cache
from mtl_jax.storage import reason, text_file
from mtl_jax.types import DataMissing, InputError

if TYPE_CHECKING:  # for 60 ms, and only settings of text need it
    from tokenizers import Tokenizer

Text = str | tuple[str, str]

FILES = ("vocab.json", "merges.txt")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""The first entries of a vocabulary."""
MASK = "<mask>"
"""The last one; no task needs it, but who trains on masked words does."""
PAD = 1
"""Id of ``<pad>``: models in RoBERTa's form take it for a place without a token."""
FEWEST = 256 + len(SPECIAL) + 1
"""Entries of a vocabulary with every byte and no merges."""
BLOCK = 4_096
"""Texts that are encoded at once."""


def place(folder: str) -> Path:
    """Return the path of a vocabulary, ``~`` expanded where there is a home."""
    return Path(os.path.expanduser(folder))


def digests(folder: str) -> dict[str, str]:
    """Return the sha256 of the vocabulary's files, under their names.

    Raises:
      DataMissing: one is not there.
    """
    root = place(folder)
    missing = [name for name in FILES if not os.path.isfile(root / name)]
    if not folder or missing:
        lack = f"{root} has no {' and no '.join(missing)}" if folder else "none is set"
        raise DataMissing(
            f"a vocabulary is needed, and {lack}. --config.data.vocabulary is its "
            f"folder: {_remedy()}"
        )
    try:
        return {name: cache.sha256(root / name) for name in FILES}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable"
        ) from error


def read(folder: str) -> "Tokenizer":
    """Read a vocabulary.

    Raises:
      DataMissing: a file is not there.
      InputError: a file is damaged, or the special tokens are not RoBERTa's.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    digests(folder)
    vocabulary, merges = (place(folder) / name for name in FILES)
    try:
        ids = text_file.read_json(vocabulary)
        tokenizer = Tokenizer(models.BPE(ids, _merges(merges)))
    except Exception as error:  # it raises nothing more special
        raise InputError(
            f"{vocabulary} and {merges} cannot be read as a byte-level BPE "
            f"({reason.of(error)}); {_remedy()}"
        ) from error
    wrong = _wrong(ids, pre_tokenizers.ByteLevel.alphabet())
    if wrong:
        raise InputError(f"{vocabulary} {wrong}; {_remedy()}")
    set_up: Any = tokenizer  # its properties have no types
    set_up.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = (("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    set_up.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    return tokenizer


def _merges(path: Path) -> list[tuple[str, str]]:
    """Read the pairs of a file of merges, one a line, but for its version."""
    lines = [line.removesuffix("\r") for line in text_file.read(path).split("\n")]
    if lines[-1] == "":
        lines.pop()
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.startswith("#version"):
            pair = line.split(" ")
            if len(pair) != 2:
                raise ValueError(f"line {number} of the merges is no pair")
            pairs.append((pair[0], pair[1]))
    return pairs


def _wrong(ids: dict[str, int], alphabet: Sequence[str]) -> str:
    """Say what is wrong with a vocabulary, for a model like RoBERTa.

    Args:
      ids: number of every token.
      alphabet: tokens of the 256 bytes.
    """
    for word, number in ids.items():
        if type(number) is not int:
            return f"gives {word} the number {number}, which is not whole"
    for word in SPECIAL:
        if word not in ids:
            return f"has no {word}, which RoBERTa's has"
    if ids["<pad>"] != PAD:
        return f"gives <pad> the number {ids['<pad>']}, expected {PAD} as in RoBERTa's"
    if set(ids.values()) != set(range(len(ids))):
        return f"does not number its {len(ids)} entries 0 to {len(ids) - 1}"
    lacking = [token for token in sorted(alphabet) if token not in ids]
    if lacking:
        return (
            f"lacks {len(lacking)} of the {len(alphabet)} tokens of single bytes, "
            f"{lacking[0]!r} for one, without which texts lose what no token says"
        )
    return ""


def encode(tokenizer: "Tokenizer", texts: Sequence[Text], length: int) -> np.ndarray:
    """Encode texts or pairs as ids ``[N, length]``: uint16 if they fit it, else int32.

    What is too long loses tokens at its end, a pair one by one from the longer text;
    what is too short is filled with `PAD`. Special tokens that a text spells out are
    text.
    """
    tokenizer.enable_truncation(length, strategy="longest_first")
    most = tokenizer.get_vocab_size() - 1
    dtype = np.uint16 if most <= np.iinfo(np.uint16).max else np.int32
    ids = np.full((len(texts), length), PAD, dtype)  # half the time of padding there
    for start in range(0, len(texts), BLOCK):
        encoded = tokenizer.encode_batch_fast(list(texts[start : start + BLOCK]))
        for row, text in zip(ids[start:], encoded, strict=False):
            row[: len(text)] = text.ids
    return ids


def train(texts: Iterable[str], size: int, folder: str) -> int:
    """Train a vocabulary and write its files; returns how many entries it has.

    That is ``size`` at most: pairs that occur once are not merged. The same texts give
    the same files.

    Raises:
      InputError: ``size`` is below `FEWEST`, or the files cannot be written.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if size < FEWEST:
        raise InputError(
            f"size is {size}; a vocabulary of bytes needs at least {FEWEST} entries"
        )
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer: Any = trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    root = place(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        tokenizer.model.save(str(root))
        ids = {**tokenizer.get_vocab(), MASK: tokenizer.get_vocab_size()}
        ordered = dict(sorted(ids.items(), key=lambda entry: entry[1]))
        (root / FILES[0]).write_text(json.dumps(ordered, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise InputError(
            f"{root} cannot be written ({error.strerror}); choose another folder"
        ) from error
    return len(ids)


def _remedy() -> str:
    return (
        f"RoBERTa's {' and '.join(FILES)} do, or train one on the data: mtl-jax "
        "vocabulary --data=DIR --out=FOLDER --size=8000"
    )
