"""What an image file says about itself, read from its first bytes before anything is decoded.

Decoders trust these numbers and take memory by them, some as soon as they open a file. Sources: PNG
specification (third edition) 11.2.1, ITU-T T.81 (JPEG) B.2, RFC 9649 (WebP).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from inference.errors import RequestError

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES: Final = 24
_VP8_FRAME: Final = b"\x9d\x01\x2a"
_VP8L_MARK: Final = 0x2F
_WEBP_ANIMATED: Final = 0x02
_WEBP_HEADER_BYTES: Final = 30
# Start of frame, in all its kinds; DHT, JPG and DAC lie among them and are none. The first three
# (baseline, extended, progressive) with Huffman codes are what cameras and programs write.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_COMMON: Final = frozenset({0xC0, 0xC1, 0xC2})
# A Huffman code takes a bit at least, and each block of 8 by 8 pixels has one.
_PIXELS_PER_BYTE: Final = 8 * 64
_JPEG_SCAN: Final = 0xDA
# Markers that stand alone, without a length.
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
# What is shown first where a file is of no known kind.
_KNOWN: Final = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "XML",
}


class Format(StrEnum):
    """The formats that are read, by the names Pillow gives them."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"


@dataclass(frozen=True)
class ImageHeader:
    """Format, and width and height in pixels."""

    format: Format
    width: int
    height: int


def refuse(rule: str) -> RequestError:
    """Return the refusal of an image: it names the field."""
    return RequestError(f"image: {rule}", param="image")


def read_header(file: bytes) -> ImageHeader:
    """Return what a file says about itself. Raises `RequestError` that names `image`."""
    if file.startswith(_PNG):
        return _png(file)
    if file.startswith(b"\xff\xd8\xff"):
        return _jpeg(file)
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return _webp(file)
    kind = next((name for mark, name in _KNOWN.items() if file.lstrip().startswith(mark)), "")
    what = f"is {kind}" if kind else "is of no known format"
    raise refuse(f"{what}: PNG, JPEG and WebP are read")


def _png(file: bytes) -> ImageHeader:
    if len(file) < _PNG_HEADER_BYTES or file[12:16] != b"IHDR":
        raise refuse("is a broken PNG: its header is missing")
    return _sized(Format.PNG, int.from_bytes(file[16:20]), int.from_bytes(file[20:24]))


def _jpeg(file: bytes) -> ImageHeader:
    at, found = 2, None
    while at + 4 <= len(file):
        if file[at] != 0xFF:
            break
        marker = file[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in _JPEG_ALONE:
            at += 2
            continue
        if marker == _JPEG_SCAN:
            break
        if marker in _JPEG_FRAMES:
            if found is not None:
                # Which of them counts would be the decoder's choice.
                raise refuse("is a broken JPEG: it has two frame headers")
            if marker not in _JPEG_COMMON:
                raise refuse("is a JPEG of a rare kind: baseline and progressive ones are read")
            found = file[at + 5 : at + 9]
        at += 2 + int.from_bytes(file[at + 2 : at + 4])
    if found is None or len(found) < 4:
        raise refuse("is a broken JPEG: its frame header is missing")
    header = _sized(Format.JPEG, int.from_bytes(found[2:]), int.from_bytes(found[:2]))
    # Decoders fill in what is missing without a word.
    if header.width * header.height > (len(file) - at) * _PIXELS_PER_BYTE:
        raise refuse(
            f"is a broken JPEG: it says {header.width} x {header.height} pixels, "
            f"which {len(file) - at} bytes cannot hold"
        )
    return header


def _webp(file: bytes) -> ImageHeader:
    kind, body = file[12:16], file[20:_WEBP_HEADER_BYTES]
    if len(file) < _WEBP_HEADER_BYTES:
        raise refuse("is a broken WebP: its header is missing")
    if kind == b"VP8X":
        if body[0] & _WEBP_ANIMATED:
            raise refuse("is animated: one picture is read")
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8 " and body[3:6] == _VP8_FRAME:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    elif kind == b"VP8L" and body[0] == _VP8L_MARK:
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise refuse("is a broken WebP: its header is missing")
    return _sized(Format.WEBP, width, height)


def _sized(format: Format, width: int, height: int) -> ImageHeader:
    if not width or not height:
        raise refuse(f"is a broken {format}: it says {width} x {height} pixels")
    return ImageHeader(format, width, height)
