"""Train a vocabulary on the training texts of GLUE, where RoBERTa's is not at hand.

  mtl-jax vocabulary --data=DATA --out=runs/vocabulary --size=8000

It reads the official train split of every task that is there, and writes vocab.json and
merges.txt, which --config.data.vocabulary=runs/vocabulary takes.
"""

from absl import flags

from . import command_line, entry

DATA = flags.DEFINE_string("data", "", "As --config.data.dir: holds the folder glue.")
SOURCE = flags.DEFINE_string("source", "auto", "As --config.data.source.")
OUT = flags.DEFINE_string("out", None, "Folder of the vocabulary.")
SIZE = flags.DEFINE_integer("size", 8_000, "Entries, at most.")
command_line.require("out")


def vocabulary() -> None:
    """Train the vocabulary of the flags, and say where it is."""
    from mtl_jax.data import glue_source, tokens

    out: str = OUT.value  # type: ignore[assignment]
    texts = glue_source.training_texts(DATA.value, SOURCE.value)
    entries = tokens.train(texts, SIZE.value, out)
    print(f"written to {out}: {entries} entries")


if __name__ == "__main__":
    entry.main(vocabulary, str(__doc__))
