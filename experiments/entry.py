"""What every entry point shares: flags, a compilation cache, and honest exits.

Exit codes: 0 done, 2 a mistake in the input (one message, no traceback),
128 + n stopped by signal n.
"""

import inspect
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags, logging
from ml_collections import ConfigDict
from rich.console import Console

from experiments import compilation_cache
from mtl_jax.types import InputError

INPUT_ERROR = 2
MOST_CPU_DEVICES = 8
"""Each holds a copy of the data."""


def main(
    run: Callable[[], int | None],
    doc: str,
    config: flags.FlagHolder[ConfigDict] | None = None,
) -> None:
    """Parse the flags, call ``run``, and exit with its number.

    Args:
      run: the entry point's one call.
      doc: its docstring, the head of ``--help``.
      config: its config flag, if it has one.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a locale cannot write is spelt
            stream.reconfigure(errors="backslashreplace")
    logging.set_verbosity(logging.FATAL)  # Orbax logs errors and raises them, too
    if {"--help", "-h", "-help"} & set(sys.argv[1:]):
        print(_help(doc, config is not None))
        sys.exit(0)
    _parse(sys.argv, config)
    _prepare_jax()
    try:
        sys.exit(run())
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:  # as of `| head`; nobody reads what is said
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
    """What an error of the system is about, and what it is."""
    names = [str(name) for name in (error.filename, error.filename2) if name]
    return ": ".join([*names, f"{error.strerror}; mend that and try again."])


def fail(message: str) -> None:
    """Print one message and exit with the code of a mistake in the input."""
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(
        f"error: {message}"
    )
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


def _parse(argv: list[str], config: flags.FlagHolder[ConfigDict] | None) -> None:
    """Parse flags; a mistake in them, or in the config file, is an input error."""
    try:
        rest = flags.FLAGS(argv)[1:]
        if config is not None:
            config.value.to_dict()  # a file that failed to load says so only now
    except (AttributeError, KeyError) as error:
        fail(f"the config has no such field: {_text(error)} (see configs/default.py)")
    except (flags.Error, TypeError, ValueError) as error:
        fail(_text(error))
    except (ImportError, OSError, SyntaxError, NameError) as error:
        fail(f"the config file cannot be loaded: {_text(error)}")
    if rest:
        fail(f"unknown argument {rest[0]!r}; flags begin with --, see --help")


def _text(error: Exception) -> str:
    """What an error says, in one line; ml_collections wraps one in another."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split())


def _help(doc: str, has_config: bool) -> str:
    """Docstring, flags, and every field of the config with its default."""
    own = flags.FLAGS.get_flags_for_module(sys.argv[0])
    lines = [
        f"  --{flag.name}: {flag.help}"
        + (f" (default: {flag.value})" if flag.value is not None else "")
        for flag in own
    ]
    text = "\n".join([doc, "Flags:", *lines])
    if has_config:
        from configs import default

        fields = inspect.getsource(default.get_config)
        text += f"\n\nFields of the config (configs/default.py):\n{fields}"
    return text


def _prepare_jax() -> None:
    """One CPU device per core, and a compilation cache per user, unless told other."""
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
