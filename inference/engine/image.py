"""An image of a caller's, decoded within limits: three formats, one picture, so many pixels.

Whatever its colours, it becomes 8 bit RGB as Pillow converts it: transparency is dropped, 16 bits
become their upper 8, CMYK is converted without a profile. A camera's EXIF orientation is applied,
since a model learnt from upright pictures.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Final

import numpy as np
from PIL import Image

from inference.engine.image_header import Format, ImageHeader, read_header, refuse

# A file of 8 MiB is a large photograph; its pixels as RGB take 48 MiB at most.
MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_PIXELS: Final = 16 * 1024 * 1024
MAX_SIDE: Final = 16 * 1024
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise for files that are not what they should be.
_FAULTS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
# Behind our own limits, Pillow's: it warns above this many pixels, and its warning is an error.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(file: bytes, named: Format | None = None) -> Image.Image:
    """Return a file's picture as RGB, upright. `named` is the format its sender says it has.

    Raises `RequestError` that names `image`. Takes up to half a second: call it on a thread.
    """
    header = check(file, named)
    fault = ""
    try:
        with Image.open(io.BytesIO(file), formats=(header.format,)) as image:
            if image.size != (header.width, header.height):
                fault = f"its {header.format} says two sizes"
            elif image.format != header.format or getattr(image, "n_frames", 1) != 1:
                fault = "has several pictures: one is read"
            else:
                image.load()
                return _upright(image)
    except _FAULTS as error:
        fault = f"is a broken {header.format}: {error!s:.100}"
    raise refuse(fault)


def check(file: bytes, named: Format | None = None) -> ImageHeader:
    """Return a file's header. Raises `RequestError` for what is not decoded at all."""
    if len(file) > MAX_FILE_BYTES:
        raise refuse(f"has {len(file)} bytes, more than {MAX_FILE_BYTES}")
    header = read_header(file)
    if named not in (None, header.format):
        raise refuse(f"is called {named} and is {header.format}")
    if header.width * header.height > MAX_PIXELS or max(header.width, header.height) > MAX_SIDE:
        raise refuse(
            f"has {header.width} x {header.height} pixels; at most {MAX_PIXELS} are read, "
            f"and {MAX_SIDE} in a row"
        )
    return header


def _upright(image: Image.Image) -> Image.Image:
    method = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    if image.mode.startswith("I"):
        # Pillow's own conversion cuts 16 bits off at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    return image if method is None else image.transpose(method)
