"""Large image data sets, decoded once into memory-mapped .npy files in the cache.

An entry is a folder like those of `cache`, but filled block by block: a block is
finished once its bytes are on the disk and their sha256 is in the record. After a
kill, or an error in one image, the next call goes on from the finished blocks; one
that was damaged since is decoded again.

Every start checks all bytes: at 2 GB/s and core (sha256 of a CPU with SHA extensions)
that is little beside decoding, and beside reading them from a disk.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl_jax.data import cache
from mtl_jax.storage import disk, reason
from mtl_jax.types import InputError

LAYOUT = "1"
"""Part of the key: change it whenever entries are laid out differently."""
BLOCK = 256
"""Examples that are lost to a kill, at most."""
IN_MEMORY = 2**28
"""Bytes up to which arrays may stay in memory where the cache cannot be written."""
RECORD, LOCK = "blocks.json", "lock"

Decode = Callable[[int], Mapping[str, np.ndarray]]
Record = dict[str, dict[str, str]]
"""Sha256 of every part, under the number of the block."""

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """An entry of the cache: the files of a data set's arrays, and their form."""

    folder: Path
    parts: dict[str, tuple[tuple[int, ...], np.dtype]]
    """Shape of one example and type."""
    count: int

    def path(self, part: str) -> Path:
        """Return the .npy file of a part."""
        return self.folder / f"{part}.npy"

    def header(self, part: str) -> bytes:
        """Make the header of a part's .npy file."""
        shape, dtype = self.parts[part]
        about = {"shape": (self.count, *shape), "fortran_order": False}
        about["descr"] = np.lib.format.dtype_to_descr(dtype)
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, about)
        return file.getvalue()

    def example_size(self, part: str) -> int:
        """Return the bytes of one example."""
        shape, dtype = self.parts[part]
        return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize

    def size(self, examples: int) -> int:
        """Return the bytes of so many examples in all parts."""
        return examples * sum(map(self.example_size, self.parts))

    def blocks(self) -> dict[str, range]:
        """Number the blocks, each a range of examples."""
        starts = range(0, self.count, BLOCK)
        return {
            str(number): range(start, min(start + BLOCK, self.count))
            for number, start in enumerate(starts)
        }


def arrays(
    name: str,
    sources: Mapping[str, str],
    parts: Mapping[str, tuple[tuple[int, ...], DTypeLike]],
    count: int,
    decode: Decode,
    workers: int | None = None,
) -> dict[str, np.ndarray]:
    """Return every part of all examples, ``[count, *shape]``, mapped read-only.

    Args:
      name: readable part of the entry's name.
      sources: what the examples come from: digests or sizes of files under their
        names, and whatever else (an image size) decides what ``decode`` returns.
      parts: shape of one example and type, per part.
      count: number of examples, at least 1.
      decode: decodes the parts of example ``i``. It is called from several threads,
        which helps as Pillow and NumPy let go of the interpreter while they work.
      workers: number of these threads; None for one a core.

    Raises:
      InputError: more than `IN_MEMORY` does not fit the cache, or ``decode`` raised
        it; blocks that were finished before stay finished.
    """
    form = {p: (tuple(shape), np.dtype(dtype)) for p, (shape, dtype) in parts.items()}
    types = {p: [list(shape), dtype.str] for p, (shape, dtype) in form.items()}
    key = json.dumps([LAYOUT, BLOCK, count, types, dict(sources)], sort_keys=True)
    key = hashlib.sha256(key.encode()).hexdigest()[:16]
    entry = Entry(Path(f"{name}-{key}"), form, count)
    console = Console(stderr=True, markup=False, emoji=False)  # names may be any
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            entry = entry._replace(folder=_root() / entry.folder)
            if len(_finished(entry, pool)) < len(entry.blocks()):
                with _locked(entry.folder, console):
                    _fill(entry, decode, pool, console)
            return _mapped(entry)
        except OSError as error:
            if entry.size(count) > IN_MEMORY:
                raise InputError(
                    f"{name} needs {_gb(entry.size(count))} in the cache: {error}; "
                    "make room, or set MTL_JAX_CACHE to a folder that has it"
                ) from error
            _log.warning(
                "%s; going on without the cache ($MTL_JAX_CACHE moves it)", error
            )
        with _progress(entry, count, console) as advance:
            return _decoded(entry, range(count), decode, pool, advance)


def _root() -> Path:
    try:
        return cache.folder()
    except RuntimeError as error:
        raise OSError(str(error)) from error  # there is no home directory


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _mapped(entry: Entry) -> dict[str, np.ndarray]:
    """Map all parts; a ValueError if a file is not of the entry's form."""
    maps = {}
    for part, (shape, dtype) in entry.parts.items():
        header = entry.header(part)
        with entry.path(part).open("rb") as file:
            if file.read(len(header)) != header:
                raise ValueError(f"{entry.path(part)} has another header")
            shape = (entry.count, *shape)
            maps[part] = np.memmap(file, dtype, "r", len(header), shape)
    return maps


def _digests(examples: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {p: hashlib.sha256(a.data).hexdigest() for p, a in examples.items()}


def _finished(entry: Entry, pool: Executor) -> Record:
    """The record of those blocks whose bytes are as recorded."""
    try:
        record = json.loads((entry.folder / RECORD).read_text())
        recorded = [(b, record[b], e) for b, e in entry.blocks().items() if b in record]
        maps = _mapped(entry)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return {}

    def is_whole(of_block: tuple[str, dict[str, str], range]) -> bool:
        _, digests, examples = of_block
        place = slice(examples.start, examples.stop)
        return digests == _digests({part: a[place] for part, a in maps.items()})

    whole = pool.map(is_whole, recorded)
    return {b: sums for (b, sums, _), good in zip(recorded, whole, strict=True) if good}


@contextlib.contextmanager
def _locked(folder: Path, console: Console) -> Iterator[None]:
    """Hold the entry alone; the lock goes with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"waiting for the process that prepares {folder}"
            console.print(text, soft_wrap=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(entry: Entry, decode: Decode, pool: Executor, console: Console) -> None:
    """Decode the blocks that are not finished."""
    record = _finished(entry, pool)  # again: whoever had the lock may have done it
    missing = {b: part for b, part in entry.blocks().items() if b not in record}
    examples = sum(map(len, missing.values()))
    if not missing:
        return
    if _was_more(entry, record):
        _log.warning("%s was damaged; what is needed is built again", entry.folder)
    needed, free = entry.size(examples), shutil.disk_usage(entry.folder).free
    if needed > free:
        text = f"{_gb(needed)} are missing, and {_gb(free)} are free in"
        raise OSError(errno.ENOSPC, text, str(entry.folder))
    try:
        _mapped(entry)
    except (OSError, ValueError):
        _create(entry)
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(_progress(entry, examples, console))
        # Not written through a map: a full disk would kill the process.
        files = {p: stack.enter_context(entry.path(p).open("r+b")) for p in entry.parts}
        for block, numbers in missing.items():
            decoded = _decoded(entry, numbers, decode, pool, advance)
            for part, file in files.items():
                skipped = numbers.start * entry.example_size(part)
                file.seek(len(entry.header(part)) + skipped)
                file.write(decoded[part].data)
                file.flush()
                os.fsync(file.fileno())
            record[block] = _digests(decoded)
            _write(entry, record)


def _was_more(entry: Entry, finished: Record) -> bool:
    """Tell whether the record has more than what is finished."""
    try:
        return json.loads((entry.folder / RECORD).read_text()) != finished
    except FileNotFoundError:
        return False
    except ValueError:
        return True


def _create(entry: Entry) -> None:
    """Make the files of all parts, in full size but with holes for the examples."""
    for part in entry.parts:
        path = entry.path(part)
        path.unlink(missing_ok=True)  # who has mapped it keeps the old one
        with path.open("wb") as file:
            file.write(entry.header(part))
            file.truncate(file.tell() + entry.count * entry.example_size(part))


def _decoded(
    entry: Entry,
    examples: range,
    decode: Decode,
    pool: Executor,
    advance: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Decode examples in threads, and check that they have the stated form."""

    def checked(i: int) -> Mapping[str, np.ndarray]:
        try:
            example = decode(i)
        except OSError as error:  # not to be taken for trouble with the cache
            raise InputError(
                f"example {i} cannot be decoded ({reason.of(error)}); mend its file"
            ) from error
        form = {part: (a.shape, a.dtype) for part, a in example.items()}
        if form != entry.parts:
            raise TypeError(f"example {i} is {form}, expected {entry.parts}")
        return example

    decoded = {
        part: np.empty((len(examples), *shape), dtype)
        for part, (shape, dtype) in entry.parts.items()
    }
    for place, example in enumerate(pool.map(checked, examples)):
        for part, array in decoded.items():
            array[place] = example[part]
        advance()
    return decoded


def _write(entry: Entry, record: Record) -> None:
    """Replace the record in one step."""
    with disk.whole(entry.folder / RECORD) as file:
        file.write(json.dumps(record).encode())


@contextlib.contextmanager
def _progress(
    entry: Entry, examples: int, console: Console
) -> Iterator[Callable[[], None]]:
    """Show a bar over the examples to decode; in a log file, its first and last."""
    columns: Iterable = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    where = f"{entry.folder} ({_gb(entry.size(entry.count))})"
    text = f"decoding {examples} of {entry.count} examples, once, into {where}"
    console.print(text, soft_wrap=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding", total=examples)
        yield lambda: bar.advance(task)
    console.print(f"decoded {examples} examples", soft_wrap=True)
