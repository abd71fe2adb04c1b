"""Provenance of a run, in ``run.json``: data, and versions and devices by session.

It is for people and reports; nothing is computed from it, and whatever happened to the
file, a run goes on.
"""

import contextlib
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from mtl_jax.devices import multihost
from mtl_jax.storage import disk

PACKAGES = ("mtl_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FILE = "run.json"


@multihost.on_primary_host
def add_session(folder: Path, step: int, data: dict[str, Any]) -> None:
    """Note in ``run.json`` what this process runs with, and from which step.

    What cannot be read of it does not keep a run from going on; it is set aside as
    ``run.damaged``.
    """
    path = folder / FILE
    before = sessions(folder)
    if path.exists() and not before:
        path.replace(path.with_suffix(".damaged"))
    session = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "from_step": step,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "processor": _processor(),
        "git_revision": _git_revision(),
    }
    write_sessions(folder, data, [*before, session])


@multihost.on_primary_host
def note(folder: Path, **numbers: Mapping[str, float | None]) -> None:
    """Note numbers of this process in ``run.json``.

    Args:
      folder: the workdir.
      **numbers: ``seconds``, wall time so far by what it went into; ``throughput``.
    """
    known = sessions(folder)
    if known:
        for name, values in numbers.items():
            known[-1][name] = {
                k: v if v is None else round(v, 3) for k, v in values.items()
            }
        data = disk.read_json(folder / FILE).get("data")
        write_sessions(folder, data, known)


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Read the sessions of ``run.json``; none where it is damaged or not there."""
    try:
        content = disk.read_json(folder / FILE)["sessions"]
    except (OSError, ValueError, KeyError):
        return []
    are_sound = isinstance(content, list) and all(map(_is_session, content))
    return content if are_sound else []


def _is_session(content: Any) -> bool:
    """Tell whether this is what `add_session` and `note` wrote."""
    if not isinstance(content, dict):
        return False
    of_kind = [
        isinstance(content.get(name, kind()), kind)
        for name, kind in {"started": str, "versions": dict, "seconds": dict}.items()
    ]
    devices, seconds = content.get("devices", []), content.get("seconds", {})
    reached = content.get("throughput", {})
    return (
        all(of_kind)
        and isinstance(devices, list)
        and all(isinstance(device, str) for device in devices)
        and all(isinstance(number, int | float) for number in seconds.values())
        and isinstance(reached, dict)
        and all(isinstance(n, int | float | None) for n in reached.values())
    )


def write_sessions(folder: Path, data: Any, sessions: list[dict[str, Any]]) -> None:
    """Write ``run.json``: which data it is, and the sessions."""
    disk.write_json(folder / FILE, disk.sealed({"data": data, "sessions": sessions}))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Model of the CPU, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_revision() -> str | None:
    """Revision of the checkout that this code lies in, ``+`` if it was changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision, changes = (
            subprocess.run(
                [*git, *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+" if changes else "")
