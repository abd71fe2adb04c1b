"""Examples of GLUE's tasks: from the official files, or prepared by TFDS."""

from collections.abc import Iterator
from pathlib import Path

from mtl_jax.data import source as sources
from mtl_jax.data.glue_files import TASKS, Example, GlueTask, check, read
from mtl_jax.options import one_of
from mtl_jax.types import DataMissing, InputError

FOLDERS = ("glue", "GLUE")
"""Names of the folder that holds those of the tasks."""


def find(
    directory: str, source: str, tasks: tuple[str, ...]
) -> dict[str, sources.FileSet]:
    """Look for both splits of every task, without reading them.

    Args:
      directory: holds the folder glue, or is it; empty as in `sources.find`.
      source: as in `sources.find`; ``auto`` chooses for every task.
      tasks: names in `TASKS`.

    Raises:
      DataMissing: something is not there; the message says what, where, how to get
        it, and how to go without it.
    """
    places = look(directory, source)
    missing = [task for task in tasks if not complete(places[task])]
    if missing:
        raise DataMissing(_absence(directory, places, missing))
    return {task: places[task] for task in tasks}


def look(directory: str, source: str) -> dict[str, sources.FileSet]:
    """Look for the files of every task, of which there may be none."""
    one_of("data.source", source, sources.SOURCES)
    kinds = {"tfds": _prepared, "files": _official}
    places = {}
    for name, task in TASKS.items():
        candidates = [
            kinds[kind](folder, name, task)
            for kind in sources.SOURCES[source]
            for folder in _folders(directory)
        ]
        places[name] = max(candidates, key=lambda file_set: len(file_set.files))
    return places


def complete(file_set: sources.FileSet) -> bool:
    """Tell whether both splits of a task are there."""
    return len(file_set.files) == len(TASKS[file_set.name].files)


def examples(file_set: sources.FileSet, split: str) -> tuple[list[Example], int]:
    """Read a split, and say how many broken rows were left out.

    Examples come in one canonical order, that of their texts: TFDS shuffles when it
    prepares, and so a seed picks the same examples from either source.

    Raises:
      InputError: a file is damaged or not what its name says, or has no example.
    """
    task, files, left_out = TASKS[file_set.name], file_set.files[split], 0
    if file_set.kind == "tfds":
        read_in = _from_tfds(files, task, split)
    else:
        read_in, left_out = read(files[0], task)
    if not read_in:
        raise InputError(f"{files[0]} has no examples; get the official data")
    return sorted(read_in), left_out


def training_texts(directory: str, source: str) -> Iterator[str]:
    """Yield the texts of the train splits that are there, to train a vocabulary on.

    Raises:
      DataMissing: there is none.
      InputError: as `examples`.
    """
    places = look(directory, source)
    there = [file_set for file_set in places.values() if "train" in file_set.files]
    if not there:
        raise DataMissing(_absence(directory, places, list(TASKS)))
    for file_set in there:
        for *texts, _ in examples(file_set, "train")[0]:
            yield from (text for text in texts if text)


def _folders(directory: str) -> list[Path]:
    """The folders that may hold tasks, at least one, which need not be there."""
    root = sources.root_folder(directory)
    if root.name in FOLDERS:
        return [root]
    return [root / f for f in FOLDERS if (root / f).is_dir()] or [root / FOLDERS[0]]


def _official(folder: Path, name: str, task: GlueTask) -> sources.FileSet:
    root = folder / task.folder
    files = {s: (root / f,) for s, f in task.files.items() if (root / f).is_file()}
    return sources.FileSet(name, "files", root, files)


def _prepared(folder: Path, name: str, task: GlueTask) -> sources.FileSet:
    root = folder / name
    theirs = {"train": "train", "test": task.prepared}
    there = sources.shards(root, "glue", tuple(theirs.values()))
    files = {ours: there[name] for ours, name in theirs.items() if name in there}
    return sources.FileSet(name, "tfds", root, files)


def _from_tfds(files: tuple[Path, ...], task: GlueTask, split: str) -> list[Example]:
    """Read all examples of a split that TFDS prepared."""
    version = files[0].parent
    try:
        data = sources.prepared(files, "train" if split == "train" else task.prepared)
        rows = [
            (*(row[name].decode().strip() for name in task.features), row["label"])
            for row in data.__getitems__(range(len(data)))
        ]
    except Exception as error:  # damage shows as unrelated types
        raise sources.unreadable(version, error) from error
    examples = []
    for place, (*texts, label) in enumerate(rows):
        where = f"{version}, {split} example {place},"
        first, second = [*texts, None][:2]
        examples.append((first, second, check(where, task, float(label))))
    return examples


def _absence(
    directory: str, places: dict[str, sources.FileSet], missing: list[str]
) -> str:
    """Say which files are missing, where, and the ways to go on."""
    folders = _folders(directory)
    folder = folders[0]
    command = sources.build_command(
        folder.parent,
        [f"glue/{name}" for name in missing],
        "--imports=tensorflow_datasets.text.glue ",  # else tfds does not know them
    )
    text = (
        f"glue lacks {', '.join(_lacking(folders, name) for name in missing)} in "
        f"{folder} (--config.data.source and --config.data.dir say where to look). Put "
        "the official files of https://gluebenchmark.com/tasks there, a folder a task; "
        f"or prepare them with TFDS: {command}"
    )
    there = [name for name in places if name not in missing and complete(places[name])]
    if not there:
        return text
    return f"{text}; or train on what is there: --config.data.tasks={','.join(there)}"


def _lacking(folders: list[Path], name: str) -> str:
    """A task with the official files that are not there."""
    task = TASKS[name]
    files = [f"{task.folder}/{file}" for file in task.files.values()]
    missing = [
        f for f in files if not any((folder / f).is_file() for folder in folders)
    ]
    return f"{name} ({', '.join(missing)})" if missing else name
