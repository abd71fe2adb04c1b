"""The manifest of a workdir's records: which parts there are, and their checksums.

It lies beside them as ``records.json``, and every checkpoint holds what it was then.
A part is drafted, then listed, then given its name: whatever is listed can be read at
any time, be it from the draft, and what is not listed is not of this run. Workdirs of
versions before it have none.
"""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.storage import disk
from mtl_jax.types import InputError

FILE = "records.json"


class Part(NamedTuple):
    """File of records, as it was written."""

    rows: int
    crc32: int
    """CRC-32 of the bytes of the file."""
    measured: bool = False
    """It holds what was measured after training, which training does not repeat."""

    def is_of(self, content: bytes) -> bool:
        """Tell whether these are the bytes that were written."""
        return zlib.crc32(content) == self.crc32


Parts = dict[int, Part]
"""Parts by their steps."""


class Manifest(NamedTuple):
    """Parts that were written in a workdir so far."""

    parts: Parts
    checkpoint: int = -1
    """Step of the newest checkpoint that is known to be whole; -1: none yet."""


def read(workdir: Path) -> Manifest | None:
    """Read the manifest of a workdir; None where there is none.

    Raises:
      InputError: it is damaged.
    """
    path = workdir / FILE
    try:
        content = disk.read_json(path)
        return Manifest(parts(content["parts"]), int(content["checkpoint"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Put a sound copy back; or delete it, if "
            f"nothing in {workdir} but this file was damaged: the records are then "
            f"taken as they are."
        ) from error


def write(workdir: Path, manifest: Manifest) -> None:
    """Replace the manifest of a workdir."""
    content = {
        "parts": listed(manifest.parts),
        "checkpoint": manifest.checkpoint,
    }
    disk.write_json(workdir / FILE, disk.sealed(content))


def note_checkpoint(workdir: Path, step: int) -> None:
    """Note that the checkpoint of a step is whole, where there are records."""
    manifest = read(workdir)
    if manifest and manifest.checkpoint != step:
        write(workdir, manifest._replace(checkpoint=step))


def listed(parts: Parts) -> list[dict[str, Any]]:
    """Return parts as JSON has them."""
    return [{"step": step, **parts[step]._asdict()} for step in sorted(parts)]


def parts(content: Any) -> Parts:
    """Return parts from what `listed` made of them.

    Raises:
      ValueError, TypeError, KeyError: it is something else.
    """
    return {
        int(each["step"]): Part(
            int(each["rows"]), int(each["crc32"]), bool(each["measured"])
        )
        for each in content
    }


def part(content: bytes, rows: int, measured: bool = False) -> Part:
    """Describe a file of records that holds these bytes."""
    return Part(rows, zlib.crc32(content), measured)
