"""Parts that all entry points share: flags, a compilation cache, honest exits.

Exit codes: 0 done, 2 a mistake in the input (one message, no traceback),
128 + n stopped by signal n.
"""

import io
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import logging
from rich.console import Console

from mtl_jax.types import InputError

from . import STARTED, command_line, compilation_cache, help

INPUT_ERROR = 2
MOST_CPU_DEVICES = 8
"""Each holds a copy of the data."""


def elapsed() -> float:
    """Return the seconds since this process was started, but for Python's own start."""
    return time.monotonic() - STARTED


def main(run: Callable[[], int | None], doc: str) -> None:
    """Parse the flags, call ``run``, and exit with its number.

    Args:
      run: the entry point's one call, by the name of its command.
      doc: its docstring, the head of ``--help``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a locale cannot write is spelt
            stream.reconfigure(errors="backslashreplace")
    logging.set_verbosity(logging.FATAL)  # Orbax logs errors and raises them, too
    # Pillow would warn of what `data.image` refuses.
    warnings.filterwarnings("ignore", "Image size .* decompression bomb")
    try:
        if help.WORDS & set(sys.argv[1:]):
            print(help.text(sys.argv, run.__name__, doc), flush=True)
            sys.exit(0)
        command_line.parse(sys.argv, run.__name__)
        _prepare_jax()
        sys.exit(run())
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(128 + signal.SIGPIPE)
    except UnicodeEncodeError as error:
        fail(
            f"{ascii(error.object[:200])} has letters that this locale cannot write; "
            f"set PYTHONUTF8=1 (or LC_ALL=C.UTF-8), or choose another name."
        )
    except OSError as error:
        if error.errno is None:  # not of the system, but of a program
            _crash()
        fail(_of_system(error))
    except KeyboardInterrupt:  # before there was anything to save, or a second time
        _exit(128 + signal.SIGINT)
    except Exception:
        _crash()


def _crash() -> NoReturn:
    """Print the traceback of the error that is handled, and exit."""
    traceback.print_exc()
    _exit(1)


def _of_system(error: OSError) -> str:
    """Say what an error of the system is about, and what it is."""
    names = [str(name) for name in (error.filename, error.filename2) if name]
    return ": ".join([*names, f"{error.strerror}; mend that and try again."])


def console(**options: Any) -> Console:
    """Make a console that prints texts as they are: names of files may be any."""
    plain = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
    return Console(**{**plain, **options})


def fail(message: str) -> None:
    """Print one message and exit with the code of a mistake in the input."""
    shown = [c if c.isprintable() else repr(c)[1:-1] for c in message]
    console(stderr=True).print(f"error: {''.join(shown)}")
    _exit(INPUT_ERROR)


def _exit(code: int) -> NoReturn:
    """Exit; from a job of several processes at once.

    JAX would wait for the others, minutes, while they wait for this one. So they fail.
    """
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _prepare_jax() -> None:
    """Set a CPU device per core and a cache of programs per user, unless told other."""
    import jax

    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and not forced:
        # Runs go side by side on them: 1.2 times faster than one after another with
        # every product split over the cores.
        cores = len(os.sched_getaffinity(0))
        jax.config.update("jax_num_cpu_devices", min(cores, MOST_CPU_DEVICES))
    chosen = jax.config.values["jax_compilation_cache_dir"]
    folder = Path(chosen) if chosen else compilation_cache.folder()
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        compilation_cache.mend(folder)
