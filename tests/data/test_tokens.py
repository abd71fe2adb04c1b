import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import tokens
from mtl_jax.types import DataMissing, InputError
from tests import glue_tree

TEXTS = (
    "The cat sees the river .",
    "Zoë can't find 10 % of it",
    "  two  blanks\tand a tab",
    "",
    "鼠 \u2028 \x00 never seen in training",
    'an "open quote',
)
S, PAD, END, UNKNOWN = range(4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("glue")
    glue_tree.write(root)
    return root


@pytest.fixture(scope="module")
def folder(root):
    return glue_tree.vocabulary(root)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return tokens.read(folder)


def decode(tokenizer, ids):
    return "".join(glue_tree.decode(tokenizer, ids))


def test_texts_and_pairs(tokenizer):
    x = tokens.encode(tokenizer, TEXTS, 64)
    assert x.shape == (len(TEXTS), 64) and x.dtype == np.uint16
    for text, row in zip(TEXTS, x, strict=True):
        stop = 1 + row.tolist().index(END)
        assert row[0] == S and (row[stop:] == PAD).all()
        assert (row[1 : stop - 1] > UNKNOWN).all()
        assert decode(tokenizer, row) == text
    (pair,) = tokens.encode(tokenizer, [(TEXTS[0], TEXTS[1])], 64)
    first, second = ([i for i in row if i != PAD] for row in x[:2].tolist())
    assert [i for i in pair if i != PAD] == [*first, END, *second[1:]]


def test_the_longer_text_of_a_pair_is_cut(tokenizer):
    long = "cat " * 40
    (alone,) = tokens.encode(tokenizer, [long], 12)
    assert alone[0] == S and alone[-1] == END and (alone[1:-1] > UNKNOWN).all()
    for pair in (("dog", long), (long, "dog")):
        (row,) = tokens.encode(tokenizer, [pair], 16)
        ends = np.flatnonzero(row == END)
        assert len(ends) == 3 and ends[-1] == 15
        texts = decode(tokenizer, row[: ends[0]]), decode(tokenizer, row[ends[1] :])
        assert texts[pair.index("dog")] == "dog"


def test_special_tokens_in_texts_are_text(tokenizer):
    text = "</s> <pad> <mask> <s> <unk>"
    (row,) = tokens.encode(tokenizer, [text], 64)
    assert np.count_nonzero(row == END) == np.count_nonzero(row == S) == 1
    assert row.max() < tokenizer.get_vocab_size() - 1
    assert decode(tokenizer, row) == text


def test_many_texts_keep_their_order(tokenizer, monkeypatch):
    texts = [f"{i} tables" for i in range(50)]
    expected = tokens.encode(tokenizer, texts, 16)
    monkeypatch.setattr(tokens, "BLOCK", 7)
    np.testing.assert_array_equal(tokens.encode(tokenizer, texts, 16), expected)
    assert [decode(tokenizer, row) for row in expected] == texts


def test_large_vocabularies_need_more_bytes(folder, tmp_path):
    ids = json.loads(Path(folder, "vocab.json").read_text("utf-8"))
    for size, dtype in ((2**16, np.uint16), (2**16 + 1, np.int32)):
        more = {**ids, **{f"madeupword{i}": i for i in range(len(ids), size)}}
        (tmp_path / "vocab.json").write_text(json.dumps(more))
        shutil.copy(Path(folder, "merges.txt"), tmp_path)
        assert tokens.encode(tokens.read(str(tmp_path)), TEXTS, 8).dtype == dtype


def test_training(folder, root, tmp_path):
    ids = json.loads(Path(folder, "vocab.json").read_text("utf-8"))
    assert list(ids.values()) == list(range(320))
    assert list(ids)[:4] == list(tokens.SPECIAL) and list(ids)[-1] == "<mask>"
    shutil.copytree(root / "glue", tmp_path / "glue")
    again = glue_tree.vocabulary(tmp_path)
    for name in tokens.FILES:
        assert Path(again, name).read_bytes() == Path(folder, name).read_bytes()
    # Pairs that occur once are not merged.
    assert tokens.train(["ab ab"], 400, str(tmp_path / "a" / "b")) == tokens.FEWEST + 1
    tokens.read(str(tmp_path / "a" / "b"))


def test_training_out_of_range(tmp_path):
    with pytest.raises(InputError, match="size is 260; .* at least 261 entries"):
        tokens.train(["a"], 260, str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written .* another folder"):
        tokens.train(["a"], 300, str(tmp_path / "file"))


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.vocabulary", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


def test_command(folder, root, tmp_path):
    out = tmp_path / "out"
    done = command(f"--data={root}", f"--out={out}", "--size=320")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"written to {out}: 320 entries\n"
    for name in tokens.FILES:
        assert (out / name).read_bytes() == Path(folder, name).read_bytes()
    done = command(f"--data={tmp_path}", f"--out={out}")
    assert done.returncode == 2 and done.stderr.startswith("error: glue lacks cola")


def edit(**changes):
    """Set the numbers of some entries; None takes one out."""

    def damage(folder):
        path = folder / "vocab.json"
        ids = {**json.loads(path.read_text("utf-8")), **changes}
        path.write_text(json.dumps({k: v for k, v in ids.items() if v is not None}))

    return damage


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


SPECIAL_ONLY = {name: i for i, name in enumerate((*tokens.SPECIAL, "cat", "<mask>"))}
DAMAGE = {
    "no JSON": (put("vocab.json", "<html>"), ["vocab.json", "cannot"]),
    "truncated": (
        put("vocab.json", '{"<s>": 0, "<p'),
        ["vocab.json", "cannot"],
    ),
    "empty": (put("vocab.json", ""), ["vocab.json", "cannot"]),
    "other merges": (
        put("merges.txt", "#version\nq 鼠\n"),
        ["merges.txt", "cannot"],
    ),
    "no merges": (put("merges.txt", "<html>\n"), ["merges.txt", "cannot"]),
    "of GPT-2": (edit(**{"<pad>": None}), ["has no <pad>, which RoBERTa's has"]),
    "other ids": (edit(**{"<s>": 1, "<pad>": 0}), ["<pad> the number 0, expected 1"]),
    "no bytes": (
        lambda folder: (
            put("merges.txt", "#version: 0.2\n")(folder),
            put("vocab.json", json.dumps(SPECIAL_ONLY))(folder),
        ),
        ["lacks 256 of the 256 tokens of single bytes, '!' for one, without which"],
    ),
    "a byte missing": (
        lambda folder: put(
            "vocab.json", (folder / "vocab.json").read_text().replace('"Ċ"', '"x y"')
        )(folder),
        ["lacks 1 of the 256 tokens of single bytes, 'Ċ' for one"],
    ),
    "a deep list": (put("vocab.json", "[" * 100_000), ["nested too deeply", "cannot"]),
    "a truth value": (edit(**{"<pad>": True}), ["<pad> the number True, which is"]),
    "a fraction": (edit(**{"<pad>": 1.0}), ["cannot"]),
    "a negative number": (edit(**{"<pad>": -1}), ["cannot"]),
    "a list": (put("vocab.json", '["<s>"]'), ["cannot"]),
    "three words": (
        put("merges.txt", "#version: 0.2\na b c\n"),
        ["line 2 of the merges is no pair"],
    ),
    "a gap": (edit(**{"<mask>": 400}), ["does not number its 320 entries 0 to 319"]),
}


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(folder, tmp_path, damage, words):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        tokens.read(str(tmp_path))
    for word in (str(tmp_path), *words, "mtl-jax vocabulary --data=DIR"):
        assert word in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_saved_by_another_editor(folder, tokenizer, tmp_path, encoding):
    for name in tokens.FILES:
        text = Path(folder, name).read_text("utf-8").replace("\n", "\r\n")
        (tmp_path / name).write_bytes(text.encode(encoding))
    again = tokens.encode(tokens.read(str(tmp_path)), TEXTS, 32)
    np.testing.assert_array_equal(again, tokens.encode(tokenizer, TEXTS, 32))


def test_missing_vocabulary(folder, tmp_path):
    with pytest.raises(DataMissing, match="a vocabulary is needed, and none is set"):
        tokens.read("")
    shutil.copy(Path(folder, "vocab.json"), tmp_path)
    with pytest.raises(DataMissing) as error:
        tokens.digests(str(tmp_path))
    for word in (
        f"{tmp_path} has no merges.txt. ",
        "--config.data.vocabulary",
        "--size",
    ):
        assert word in str(error.value)
    with pytest.raises(DataMissing, match="has no vocab.json and no merges.txt"):
        tokens.digests(str(tmp_path / "nowhere"))


def test_ids_are_those_of_transformers(folder, tokenizer):
    transformers = pytest.importorskip("transformers")
    path = Path(folder)
    theirs = transformers.RobertaTokenizer.from_pretrained(path)
    pairs = [(a, b) for a in TEXTS for b in TEXTS]
    pairs += [(a, str(b)) for a, b, _ in glue_tree.examples("mnli", "train")]
    texts = [*TEXTS, *(a for a, *_ in glue_tree.examples("cola", "train"))]
    for chosen, length in (
        (texts, 64),
        (texts, 8),
        (pairs, 128),
        (pairs, 24),
        (pairs, 9),
    ):
        both = zip(*chosen, strict=True) if isinstance(chosen[0], tuple) else [chosen]
        expected = theirs(
            *map(list, both),
            padding="max_length",
            truncation="longest_first",
            max_length=length,
        )["input_ids"]
        np.testing.assert_array_equal(
            tokens.encode(tokenizer, chosen, length), expected
        )


@pytest.mark.parametrize("folder", ["~nobody_of_this_name/v", "x" * 300])
def test_folder_that_cannot_be(folder):
    with pytest.raises(DataMissing, match="has no vocab.json and no merges.txt"):
        tokens.digests(folder)
