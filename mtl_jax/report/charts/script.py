"""The script of Vega in the page."""

import contextlib
import os
import tempfile
from importlib import metadata
from pathlib import Path

import vl_convert

from mtl_jax.storage import disk

EXPORT = "window.vegaEmbed = vegaEmbed;"
END = "\n// whole\n"
"""End of a script that was not cut."""


def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script without imports.

    Bundling takes seconds, so that the script is kept in the cache folder, if it can.
    """
    name = f"vega-{metadata.version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        kept = disk.cache_folder() / name
        if (script := kept.read_text(encoding="utf-8")).endswith(END):
            return script
    bundle = vl_convert.javascript_bundle(EXPORT)
    script = bundle.replace("</script", "<\\/script") + END
    with contextlib.suppress(OSError, RuntimeError):
        _keep(disk.cache_folder() / name, script)
    return script


def _keep(path: Path, text: str) -> None:
    """Write a file at once, also where others do the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
