"""Image files for tests: sound ones of every kind that is read, and hostile ones made by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """A picture whose quarters differ, so that turning it shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = columns * 255 // max(width - 1, 1)
    green = rows * 255 // max(height - 1, 1)
    blue = (rows // 5 + columns // 7) % 2 * 200
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image: Image.Image, orientation: int) -> bytes:
    """Return a JPEG that says in its EXIF how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", quality=95, exif=exif.tobytes())


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, pixels: bytes, *more: bytes, depth: int = 8, kind: int = 2
) -> bytes:
    """Return a PNG that says `width` and `height`, whatever its pixels are."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *more,
            chunk(b"IDAT", zlib.compress(pixels)),
            chunk(b"IEND", b""),
        )
    )


def bomb() -> bytes:
    """A small PNG of 900 million pixels, all of which are there."""
    side = 30_000
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    data = b"".join([packer.compress(row * 1000) for _ in range(side // 1000)]) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG with a compressed text of 64 MiB."""
    text = b"Comment\x00\x00" + zlib.compress(bytes(64 * 1024 * 1024), 9)
    return png(1, 1, bytes(4), chunk(b"zTXt", text))


def webp_canvas(width: int, height: int, *, flags: int = 0) -> bytes:
    """A WebP whose extended header says a canvas that its picture does not fill."""
    inner = saved(picture(16, 16), "WEBP", lossless=True)[12:]
    head = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little")
    head += (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", len(head)) + head + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_with_size(file: bytes, width: int, height: int) -> bytes:
    """Return a baseline JPEG with another size in its frame header."""
    at = file.index(b"\xff\xc0")
    return file[: at + 5] + struct.pack(">HH", height, width) + file[at + 9 :]


def jpeg_of_two_frames(file: bytes) -> bytes:
    """Return a JPEG with a second frame header behind the first."""
    at = file.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
    return file[:end] + file[at:end] + file[end:]
