"""Images in files: their size is looked at before a pixel is decoded.

A few kilobytes may promise any number of pixels, so nothing is decoded that has not the
size that its place says.
"""

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from mtl_jax.storage import reason
from mtl_jax.types import InputError

LARGEST = 2**25
"""Bytes of a file; the largest ones that are read, of Cityscapes, have about 2**21."""


def content(path: Path) -> bytes:
    """Return the bytes of an image's file.

    Raises:
      OSError: it cannot be read, or is too large for an image.
    """
    with path.open("rb") as file:
        encoded = file.read(LARGEST + 1)
    if len(encoded) > LARGEST:
        raise OSError(f"it has more than {LARGEST} bytes, expected an image")
    return encoded


def decode(
    name: str,
    encoded: bytes,
    form: str,
    check: Callable[[Image.Image], None],
    remedy: str,
) -> Image.Image:
    """Decode an image.

    Args:
      name: of the image, for messages.
      encoded: its file.
      form: ``PNG`` or ``JPEG``; other decoders are left alone.
      check: looks at size and mode, of which alone it can be sure, and raises an
        `InputError` if they are not as they should be.
      remedy: what to do where it is damaged.

    Raises:
      InputError: as ``check``, or it is damaged.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=[form]) as image:
            check(image)
            if form == "PNG":  # loading alone lets bits flip, and verifying spends it
                image.verify()
                image = Image.open(io.BytesIO(encoded), formats=[form])
            image.load()
            return image
    except InputError:
        raise
    except Exception as error:  # damage shows as any of five types
        raise InputError(
            f"{name} cannot be decoded ({reason.of(error)}); {remedy}"
        ) from error
