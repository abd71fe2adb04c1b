"""GLUE in small: all eight tasks in the official layout, and a vocabulary of theirs.

Every class has words of its own, so that anything that sees tokens can learn it.
"""

from pathlib import Path

import numpy as np
from tokenizers import decoders

from mtl_jax.data import glue_source, tokens
from mtl_jax.data.glue_files import TASKS

SIZES = {
    name: {"train": 60 + 2 * place, "test": 24 + place}
    for place, name in enumerate(TASKS)
}
"""Examples of every task; no two are of one size."""
CUES = {
    "cola": ("of of", "gladly"),
    "sst2": ("dull", "charming"),
    "mrpc": ("unlike", "likewise"),
    "qqp": ("elsewhere", "again"),
    "mnli": ("surely", "perhaps", "never"),
    "qnli": ("because", "anyway"),
    "rte": ("indeed", "hardly"),
    "stsb": ("nothing", "little", "some", "much", "most", "everything"),
}
"""Per class, or similarity from 0 to 5, the words that give it away."""
SUBJECTS = ("The cat", "A poet", 'The "king', "Zoë", "Nobody's dog", "The judge ,")
VERBS = ("sees", "paints", "sold", "will visit", "can't find")
OBJECTS = ("a house", "the river .", "10 % of it", "two\u2028tables", "old wine ?")
HEADERS = {
    "cola": "source label mark sentence",
    "sst2": "sentence label",
    "mrpc": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "stsb": "index genre filename year old_index source1 source2 sentence1 sentence2 "
    "score",
    "qqp": "id qid1 qid2 question1 question2 is_duplicate",
    "mnli": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse "
    "sentence1_parse sentence2_parse sentence1 sentence2 label1 gold_label",
    "qnli": "index question sentence label",
    "rte": "index sentence1 sentence2 label",
}


def examples(name: str, split: str) -> list[tuple[str, str | None, float]]:
    """Texts and the label of every example, in the order of the file."""
    rng = np.random.default_rng([list(TASKS).index(name), len(split)])

    def sentence() -> str:
        return " ".join(rng.choice(words) for words in (SUBJECTS, VERBS, OBJECTS))

    made = []
    for i in range(SIZES[name][split]):
        number = i % len(CUES[name])
        cued = f"{sentence()} {CUES[name][number]} {i}"
        label = float(number)
        if name == "stsb":  # similarities between whole numbers, too
            label = float(np.clip(number + rng.choice([-0.25, 0, 0.2]), 0, 5))
        pair = (sentence(), cued) if len(TASKS[name].columns) == 2 else (cued, None)
        made.append((*pair, label))
    return made


def header(name: str, split: str = "train") -> list[str]:
    """Columns of an official file."""
    text = HEADERS[name]
    if name == "mnli" and split == "test":
        text = text.replace("label1", "label1 label2 label3 label4 label5")
    return text.split("|" if "|" in text else " ")


def spelled(name: str, label: float) -> str:
    """A label as the official file has it."""
    if name == "stsb":
        return f"{label:.3f}"
    return TASKS[name].words[int(label)] if TASKS[name].spelled else str(int(label))


def table(name: str, split: str) -> str:
    """An official file."""
    columns, task = header(name, split), TASKS[name]
    lines = ["\t".join(columns)] if name != "cola" else []
    end = " " if name == "sst2" else ""
    for i, (*texts, label) in enumerate(examples(name, split)):
        row = {column: f'"{i}' for column in columns}
        row |= {c: f"{t}{end}" for c, t in zip(task.columns, texts, strict=False)}
        lines.append("\t".join({**row, task.label: spelled(name, label)}.values()))
    return "\n".join(lines) + "\n"


def write(root: Path, names: tuple[str, ...] = tuple(TASKS), folder: str = "glue"):
    """Write the official tree, with the traps of the real one."""
    for name in names:
        own = root / folder / TASKS[name].folder
        own.mkdir(parents=True, exist_ok=True)
        for split, file in TASKS[name].files.items():
            text = table(name, split)
            if name == "rte":
                text = text.replace("\n", "\r\n")
            if (name, split) == ("qqp", "train"):
                text += "9\t9\t9\tA question that is cut\nshort ?\t0\n"
            if split == "test":
                text = text.removesuffix("\n")
            mark = "\ufeff" if (name, split) == ("mrpc", "test") else ""
            (own / file).write_bytes((mark + text).encode())


def vocabulary(root: Path) -> str:
    """Train a vocabulary of 320 entries on what is there; returns its folder."""
    folder = str(root / "vocabulary")
    tokens.train(glue_source.training_texts(str(root), "auto"), 320, folder)
    return folder


def decode(tokenizer, row) -> list[str]:
    """The texts of an example, without what is around them."""
    texts: list[list[str]] = [[]]
    for number in row:
        token = tokenizer.id_to_token(int(number))
        if token not in tokens.SPECIAL:
            texts[-1].append(token)
        elif token == "</s>":
            texts.append([])
    return [decoders.ByteLevel().decode(own) for own in texts if own]
