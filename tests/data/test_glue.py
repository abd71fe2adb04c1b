import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import LOADERS, glue, glue_files, glue_source, tokens
from mtl_jax.data.glue_files import TASKS
from mtl_jax.objectives.label_words import LABEL_WORDS
from mtl_jax.training.setting import load_dataset
from mtl_jax.types import DataMissing, InputError
from tests import glue_tree
from tests.data.builder import build
from tests.data.soundness import assert_seeded, everything, sizes
from tests.glue_tree import SIZES, decode, examples

BOTH = pytest.mark.parametrize("load", [glue.load, glue.load_text])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    glue_tree.write(root)
    return root


@pytest.fixture(scope="module")
def vocabulary(root):
    return glue_tree.vocabulary(root)


def prepare(directory, names=tuple(TASKS)):
    """Prepare as TFDS does, which has features by these names, in shuffled order."""
    import tensorflow_datasets as tfds

    for name in names:
        task, splits = TASKS[name], {}
        label = tfds.features.ClassLabel(names=list(task.words))
        texts = dict.fromkeys(task.features, tfds.features.Text())
        features = {**texts, "idx": np.int32}
        features["label"] = label if task.words else np.float32
        for split, theirs in (("train", "train"), ("test", task.prepared)):
            order = np.random.default_rng().permutation(SIZES[name][split])
            rows = [examples(name, split)[i] for i in order]
            end = " " if name == "sst2" else ""
            splits[theirs] = [
                {
                    **dict(zip(task.features, [f"{a}{end}", b], strict=False)),
                    "label": int(y) if task.words else y,
                    "idx": i,
                }
                for i, (a, b, y) in enumerate(rows)
            ]
        # Its labels are hidden.
        splits["test"] = [{**row, "label": -1} for row in splits[task.prepared]]
        build(directory, "glue", features, splits, config=name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    prepare(directory)
    return directory


def assert_same(dataset, other):
    np.testing.assert_array_equal(dataset.x, other.x)
    np.testing.assert_array_equal(dataset.y, other.y)
    np.testing.assert_array_equal(everything(dataset), everything(other))


def contents(dataset, vocabulary, task, split):
    """Count texts and target of every example."""
    tokenizer = tokens.read(vocabulary)
    return Counter(
        (*decode(tokenizer, dataset.x[row]), float(dataset.y[row]))
        for row in dataset.rows[split][dataset.tasks.index(task)]
    )


def read_back(dataset, vocabulary, task):
    """Count what came of the official train and dev files."""
    train, validation, test = (
        contents(dataset, vocabulary, task, split)
        for split in ("train", "validation", "test")
    )
    return {"train": train + validation, "test": test}


@BOTH
def test_is_sound(root, vocabulary, load):
    dataset = load(str(root), vocabulary=vocabulary, length=96)
    assert dataset.tasks == tuple(TASKS) and len(TASKS) == 8
    assert (dataset.x.dtype, dataset.x.shape[1:]) == (np.uint16, (96,))
    assert not dataset.one_input
    rows = everything(dataset)
    assert rows.dtype == np.int32
    assert sorted(rows) == list(range(len(dataset.x))) == list(range(len(dataset.y)))
    for place, official in enumerate(SIZES.values()):
        counts = {split: n[place] for split, n in sizes(dataset).items()}
        held_out = official["train"] // 10
        train = official["train"] - held_out
        expected = {"train": train, "validation": held_out, "test": official["test"]}
        assert counts == expected


def test_heads(root, vocabulary):
    dataset = glue.load(str(root), vocabulary=vocabulary)
    assert not dataset.shared_output
    assert dataset.y.dtype == np.float32 and dataset.y.ndim == 1
    of_tasks = zip(dataset.objectives, dataset.widths, strict=True)
    assert dict(zip(dataset.tasks, of_tasks, strict=True)) == {
        "cola": ("softmax_matthews", 2),
        "sst2": ("softmax", 2),
        "mrpc": ("softmax_f1", 2),
        "stsb": ("gaussian_correlation", 1),
        "qqp": ("softmax_f1", 2),
        "mnli": ("softmax", 3),
        "qnli": ("softmax", 2),
        "rte": ("softmax", 2),
    }
    for name in TASKS:
        counts = read_back(dataset, vocabulary, name)
        for split, count in counts.items():
            expected = [
                (*(text for text in texts if text is not None), float(np.float32(y)))
                for *texts, y in examples(name, split)
            ]
            assert count == Counter(expected)


PROMPTS = {
    "cola": "cola sentence: {}",
    "sst2": "sst2 sentence: {}",
    "mrpc": "mrpc sentence1: {} sentence2: {}",
    "stsb": "stsb sentence1: {} sentence2: {}",
    "qqp": "qqp question1: {} question2: {}",
    "qnli": "qnli question: {} sentence: {}",
    "rte": "rte sentence1: {} sentence2: {}",
}


def test_words(root, vocabulary):
    dataset = glue.load_text(str(root), vocabulary=vocabulary, length=160)
    assert dataset.shared_output
    assert dataset.y.dtype == np.int32 and dataset.y.ndim == 1
    assert dataset.widths == (len(LABEL_WORDS),) * 8
    assert dict(zip(dataset.tasks, dataset.objectives, strict=True)) == {
        "cola": "words_matthews",
        "sst2": "words",
        "mrpc": "words_equivalent",
        "stsb": "words_similarity",
        "qqp": "words_duplicate",
        "mnli": "words",
        "qnli": "words",
        "rte": "words",
    }
    for name, task in TASKS.items():
        counts = read_back(dataset, vocabulary, name)
        for split, count in counts.items():
            expected = Counter()
            for first, second, y in examples(name, split):
                if name == "mnli":
                    text = f"mnli hypothesis: {second} premise: {first}"
                else:
                    text = PROMPTS[name].format(first, second)
                word = task.words[int(y)] if task.words else f"{round(5 * y) / 5:.1f}"
                expected[text, LABEL_WORDS[word]] += 1
            assert count == expected


def test_similarities_are_rounded_to_fifths():
    # As TensorFlow rounds in T5: products in float32, and halves to the even one.
    given = {0: "0.0", 0.1: "0.0", 0.3: "0.4", 0.7: "0.8", 2.5: "2.4", 3.5: "3.6"}
    given |= {3.75: "3.8", 4.999: "5.0", 5: "5.0", 1.6: "1.6", 4.909: "5.0"}
    numbers = glue._words("stsb", np.array(list(given), np.float32))
    assert numbers.tolist() == [LABEL_WORDS[word] for word in given.values()]


def test_classes_are_those_of_tfds():
    from tensorflow_datasets.text import glue as theirs

    configs = {config.name: config for config in theirs.Glue.BUILDER_CONFIGS}
    left_out = {"mnli_matched", "mnli_mismatched", "wnli", "ax"}
    assert set(configs) - set(TASKS) == left_out
    splits = {name: task.prepared for name, task in TASKS.items()}
    assert splits == dict.fromkeys(TASKS, "validation") | {"mnli": "validation_matched"}
    for name, task in TASKS.items():
        assert list(task.words) == (configs[name].label_classes or [])
        assert list(task.features) == list(configs[name].text_features)
        if name not in ("cola", "mrpc"):  # of which TFDS names no columns
            assert list(task.columns) == list(configs[name].text_features.values())
            assert task.label == configs[name].label_column


@BOTH
def test_tfds_gives_the_same(root, prepared, vocabulary, load):
    expected = load(str(root), vocabulary=vocabulary, seed=1)
    dataset = load(str(prepared), vocabulary=vocabulary, seed=1)
    assert_same(dataset, expected)
    for loaded, kind in ((expected, "files"), (dataset, "tfds")):
        origins = loaded.provenance["sources"]
        assert list(origins) == [*TASKS, "vocabulary"]
        assert {origins[name]["kind"] for name in TASKS} == {kind}
    assert_same(load(str(prepared / "glue"), vocabulary=vocabulary, seed=1), expected)


def test_vocabulary_of_either_source(prepared, vocabulary, tmp_path):
    texts = glue_source.training_texts(str(prepared), "tfds")
    tokens.train(texts, 320, str(tmp_path))
    for name in tokens.FILES:
        assert (tmp_path / name).read_bytes() == Path(vocabulary, name).read_bytes()


def test_a_source_for_every_task(root, prepared, vocabulary, tmp_path):
    shutil.copytree(prepared / "glue" / "rte", tmp_path / "glue" / "rte")
    glue_tree.write(tmp_path, ("cola",))
    glue_tree.write(tmp_path, ("mrpc", "rte"), folder="GLUE")
    names = ("rte", "mrpc", "cola")
    expected = glue.load(str(root), tasks=names, vocabulary=vocabulary)
    for source, kinds in (
        ("auto", ["tfds", "files", "files"]),
        ("files", ["files"] * 3),
    ):
        dataset = glue.load(str(tmp_path), source, tasks=names, vocabulary=vocabulary)
        assert_same(dataset, expected)
        origins = dataset.provenance["sources"]
        assert [origins[name]["kind"] for name in names] == kinds
        assert (tmp_path / "GLUE" / "MRPC").samefile(origins["mrpc"]["folder"])
    with pytest.raises(DataMissing, match="glue lacks mrpc, cola in") as error:
        glue.load(str(tmp_path), "tfds", tasks=names, vocabulary=vocabulary)
    assert str(error.value).endswith("--config.data.tasks=rte")


@BOTH
def test_is_seeded(root, vocabulary, load):
    def of_seed(seed):
        return load(str(root), seed=seed, vocabulary=vocabulary)

    assert_seeded(of_seed, ("train", "validation"))


def test_at_most_so_many_are_held_out(root, vocabulary, monkeypatch):
    monkeypatch.setattr(glue, "HELD_OUT", 3)
    dataset = glue.load(str(root), vocabulary=vocabulary)
    assert set(sizes(dataset)["validation"]) == {3}


def test_some_tasks(root, vocabulary):
    complete = glue.load(str(root), vocabulary=vocabulary)
    some = glue.load(str(root), tasks=("rte", "stsb"), vocabulary=vocabulary)
    assert (some.tasks, some.widths) == (("rte", "stsb"), (2, 1))
    for place, name in enumerate(some.tasks):
        for split, rows in some.rows.items():
            ours, theirs = rows[place], complete.rows[split][complete.tasks.index(name)]
            np.testing.assert_array_equal(some.x[ours], complete.x[theirs])
            np.testing.assert_array_equal(some.y[ours], complete.y[theirs])
    as_flag = glue.load(str(root), tasks=("rte, stsb",), vocabulary=vocabulary)
    assert_same(as_flag, some)
    assert LOADERS["glue"] is glue.load and LOADERS["glue_text"] is glue.load_text
    named = {"directory": str(root), "tasks": ("rte", "stsb"), "vocabulary": vocabulary}
    assert_same(load_dataset("glue", partial=True, **named), some)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tasks": ("CoLA",)}, ["'CoLA'", "did you mean 'cola'?"]),
        ({"tasks": ("wnli",)}, ["'wnli'", "mnli"]),
        ({"tasks": ("?",)}, ["'?'", "cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte"]),
        ({"tasks": ("rte", "cola,rte")}, ["'rte'", "twice"]),
        ({"length": 7}, ["length is 7", "8 to 512"]),
        ({"length": 513}, ["length is 513", "8 to 512"]),
        ({"source": "web"}, ["source 'web' is not one of", "auto, tfds, files"]),
        ({"vocabulary": ""}, ["vocabulary is needed", "none is set"]),
    ],
)
def test_options_out_of_range(root, vocabulary, options, words):
    with pytest.raises(InputError) as error:
        glue.load(str(root), **{"vocabulary": vocabulary, **options})
    for word in words:
        assert word in str(error.value)


def test_missing_data_says_within_a_second_how_to_get_it(tmp_path, vocabulary):
    start = time.monotonic()
    with pytest.raises(DataMissing) as error:
        glue.load(str(tmp_path), vocabulary=vocabulary)
    assert time.monotonic() - start < 1
    for word in (
        "cola (CoLA/train.tsv, CoLA/dev.tsv), sst2 (SST-2/train.tsv",
        "mnli (MNLI/train.tsv, MNLI/dev_matched.tsv)",
        f" in {tmp_path / 'glue'} (--config.data.source",
        "https://gluebenchmark.com/tasks",
        "tfds build glue/cola glue/sst2 ",
        f"--file_format=array_record --data_dir={tmp_path}",
    ):
        assert word in str(error.value)
    assert "--config.data.tasks" not in str(error.value)
    with pytest.raises(DataMissing, match="glue lacks cola"):
        list(glue_source.training_texts(str(tmp_path), "auto"))


def test_missing_tasks_and_what_is_there(tmp_path, vocabulary):
    glue_tree.write(tmp_path, ("cola", "mrpc", "qnli"))
    (tmp_path / "glue" / "QNLI" / "train.tsv").unlink()
    tasks = ("cola", "qnli", "rte")
    with pytest.raises(DataMissing) as error:
        glue.load(str(tmp_path), tasks=tasks, vocabulary=vocabulary)
    text = "glue lacks qnli (QNLI/train.tsv), rte (RTE/train.tsv, RTE/dev.tsv) in "
    assert str(error.value).startswith(text)
    assert "tfds build glue/qnli glue/rte --imports" in str(error.value)
    assert str(error.value).endswith("--config.data.tasks=cola,mrpc")
    # A vocabulary is trained on what is there.
    expected = [a for a, *_ in examples("cola", "train")]
    texts = list(glue_source.training_texts(str(tmp_path), "auto"))
    assert texts[: len(expected)] == sorted(expected)
    assert len(texts) == len(expected) + 2 * SIZES["mrpc"]["train"]


def test_prepared_as_tfrecord(tmp_path, vocabulary):
    version = tmp_path / "glue" / "rte" / "2.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").touch()
    (version / "glue-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(DataMissing, match=r"--overwrite \(.*rte/2.0.0 is not complete"):
        glue.load(str(tmp_path), tasks=("rte",), vocabulary=vocabulary)


def test_encoded_once(root, vocabulary, tmp_path, monkeypatch):
    shutil.copytree(root / "glue", tmp_path / "glue")
    first = glue.load(str(tmp_path), vocabulary=vocabulary)
    calls = []
    read = glue_source.examples
    monkeypatch.setattr(
        glue_source, "examples", lambda *a: calls.append(a[0].name) or read(*a)
    )
    assert_same(glue.load(str(tmp_path), vocabulary=vocabulary), first)
    some = glue.load(str(tmp_path), tasks=("rte",), vocabulary=vocabulary)
    assert some.provenance["remarks"] == []
    assert first.provenance == glue.load(
        str(root), vocabulary=vocabulary
    ).provenance | {"sources": first.provenance["sources"]}
    assert calls == []
    file = tmp_path / "glue" / "RTE" / "dev.tsv"
    file.write_bytes(file.read_bytes().replace(b"Nobody", b"Somebody"))
    changed = glue.load(str(tmp_path), vocabulary=vocabulary)
    assert calls == ["rte", "rte"] and (changed.x != first.x).any()
    glue.load(str(tmp_path), tasks=("rte",), vocabulary=vocabulary, length=64)
    glue.load_text(str(tmp_path), tasks=("rte",), vocabulary=vocabulary)
    other = str(tmp_path / "other")
    tokens.train(["so few texts"], 300, other)
    glue.load(str(tmp_path), tasks=("rte",), vocabulary=other)
    assert calls == ["rte"] * 8


def test_what_is_cut_or_left_out_is_said(root, vocabulary):
    dataset = glue.load(str(root), vocabulary=vocabulary, length=96)
    broken = "qqp: 2 rows of the official files are cut short and left out"
    assert dataset.provenance["remarks"] == [broken]
    dataset = glue.load(str(root), tasks=("rte",), vocabulary=vocabulary, length=16)
    (remark,) = dataset.provenance["remarks"]
    assert remark.startswith("rte: 74 of 74 training examples fill all 16 tokens")


def change(name, split, old, new, count=1):
    """Damage a file of a task."""
    file = f"{TASKS[name].folder}/{TASKS[name].files[split]}"

    def change(folder):
        content = (folder / file).read_bytes()
        assert old in content
        (folder / file).write_bytes(content.replace(old, new, count))

    return name, file, change


DAMAGE = {
    "a column too few": (
        *change("rte", "train", b'"0\t', b""),
        ["3 columns in line 2", "expected 4: index, sentence1, sentence2, label"],
    ),
    "a tab in a text": (
        *change("cola", "test", b"gladly 3", b"glad\tly 3"),
        ["5 columns in line 4, expected 4: source, label, mark, sentence"],
    ),
    "qqp with too many": (
        *change("qqp", "train", b"again 1", b"a\tgain 1"),
        ["7 columns in line 3, expected 6"],
    ),
    "other number": (
        *change("sst2", "train", b"charming 1 \t1", b"charming 1 \t2"),
        ["line 3, has the label '2', expected one of 0, 1"],
    ),
    "no number": (
        *change("mrpc", "train", b"\n1\t", b"\nyes\t"),
        ["has the Quality 'yes', expected one of 0, 1"],
    ),
    "fraction": (
        *change("mrpc", "train", b"\n1\t", b"\n0.5\t"),
        ["has the Quality '0.5', expected one of 0, 1"],
    ),
    "other word": (
        *change("mnli", "test", b"\tneutral", b"\t-"),
        ["the gold_label '-', expected one of entailment, neutral, contradiction"],
    ),
    "number for a word": (
        *change("qnli", "train", b"\tentailment", b"\t0"),
        ["line 2, has the label '0', expected one of entailment, not_entailment"],
    ),
    "dissimilar": (
        *change("stsb", "test", b"\t5.000", b"\t5.001"),
        ["has the score '5.001', expected a similarity of 0 to 5"],
    ),
    "not a number": (
        *change("stsb", "train", b"\t5.000", b"\tnan"),
        ["has the score 'nan', expected a similarity of 0 to 5"],
    ),
    "a hidden label": (
        *change("sst2", "test", b"sentence\tlabel", b"index\tsentence"),
        ["no column 'label' in its header (index, sentence)"],
    ),
    "web page": (
        *change("rte", "test", b"index\tsentence1", b"<html>"),
        ["no column 'sentence1' in its header (<html>, sentence2, label)"],
    ),
    "Latin-1": (
        *change("mrpc", "train", "ë".encode(), b"\xeb"),
        ["is not UTF-8 in line "],
    ),
}


@pytest.mark.parametrize("name, file, damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_message(
    tmp_path, vocabulary, name, file, damage, words
):
    glue_tree.write(tmp_path, (name,))
    damage(tmp_path / "glue")
    with pytest.raises(InputError) as error:
        glue.load(str(tmp_path), tasks=(name,), vocabulary=vocabulary)
    for word in (str(tmp_path / "glue" / file), *words):
        assert word in str(error.value)


@pytest.mark.parametrize("content", ["", "sentence\tlabel\n"])
def test_files_without_examples(tmp_path, vocabulary, content):
    glue_tree.write(tmp_path, ("sst2",))
    (tmp_path / "glue" / "SST-2" / "dev.tsv").write_text(content)
    with pytest.raises(InputError, match=r"SST-2/dev.tsv has no (column|examples)"):
        glue.load(str(tmp_path), tasks=("sst2",), vocabulary=vocabulary)


def test_rows_end_at_newlines_only_and_quotes_are_text(tmp_path):
    path = tmp_path / "train.tsv"
    quoted = '"open\u2028\x85\x0c quote', 'it\'s "" so "'
    lines = "\ufeffsentence\tlabel", f"{quoted[0]}\t0", "", f"{quoted[1]} \t1"
    path.write_bytes("\r\n".join(lines).encode())
    rows, left_out = glue_files.read(path, TASKS["sst2"])
    assert rows == [(text, None, label) for label, text in enumerate(quoted)]
    assert left_out == 0


def test_columns_in_another_order(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("label\tsentence2\tmore\tsentence1\nentailment\tb\t-\ta\n")
    assert glue_files.read(path, TASKS["rte"])[0] == [("a", "b", 0)]


def test_unreadable_file(tmp_path):
    (tmp_path / "train.tsv").mkdir()
    with pytest.raises(InputError, match="cannot be read .*; make it readable"):
        glue_files.read(tmp_path / "train.tsv", TASKS["rte"])


def test_prepared_data_that_are_damaged(prepared, vocabulary, tmp_path):
    shutil.copytree(prepared / "glue" / "rte", tmp_path / "glue" / "rte")
    (shard,) = (tmp_path / "glue").glob("rte/*/glue-validation.array_record*")
    test = next(shard.parent.glob("glue-test.array_record*"))

    def load():
        return glue.load(str(tmp_path), tasks=("rte",), vocabulary=vocabulary)

    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read by TFDS .*source=files"):
        load()
    shutil.copy(test, shard)  # its labels are hidden
    with pytest.raises(InputError, match="test example 0, has the label '-1'"):
        load()
