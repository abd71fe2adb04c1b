"""A lock on a folder: one process holds it, and no second one works there.

It is `flock`, which goes with its process, however that ends. File systems without it
(some network disks) get a file that names the process. That stays when the process is
killed: the next one on the same machine sees that, on another one a person must.
"""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mtl_jax.types import InputError

FILE, HOLDER = ".lock", ".lock.holder"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of `flock` where the file system has none."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder against a second process.

    Raises:
      InputError: another process holds it, or it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((folder / FILE).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"workdir {folder} is in use by another process; wait for it or "
                f"choose another --workdir."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise unwritable(folder, error) from error
            stack.enter_context(_hold_by_file(folder))
        yield


def is_held(folder: Path) -> bool:
    """Tell whether a process holds a folder."""
    try:
        with (folder / FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever held it, or there are no such locks
        pass
    path = folder / HOLDER
    return path.exists() and not _is_of_the_dead(path)


def unwritable(folder: Path, error: OSError) -> InputError:
    """Make the message for a folder that cannot be written to."""
    return InputError(
        f"workdir {folder} cannot be written to: {error.strerror or error}; "
        f"choose another --workdir."
    )


@contextlib.contextmanager
def _hold_by_file(folder: Path) -> Iterator[None]:
    path = folder / HOLDER
    if _is_of_the_dead(path):
        path.unlink(missing_ok=True)
    try:
        with path.open("x") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}")
    except FileExistsError as error:
        raise InputError(
            f"workdir {folder} is in use by another process ({path} names its machine "
            f"and number); wait for it or choose another --workdir. If that process is "
            f"gone, delete that file."
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _is_of_the_dead(path: Path) -> bool:
    """Tell whether the process that a file names ran here and does no more."""
    try:
        host, number = path.read_text().split()
        os.kill(int(number), 0)
    except ProcessLookupError:
        return host == socket.gethostname()
    except (OSError, ValueError):
        return False
    return False
