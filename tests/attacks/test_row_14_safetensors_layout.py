"""Row 14: weight files whose header lies about where the bytes are.

The safetensors library refuses these too; a test that it does shows that each input is bad.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Case, Hall
from tests.attacks.safetensors_bytes import (
    WEIGHTS,
    Parts,
    joined,
    library_reads,
    taken_apart,
    written,
)

Build = Callable[[Parts], bytes]
MIB = 1024 * 1024
TOO_LONG = "header is cut off|is over 100000000"


def length(said: int) -> Build:
    """A header that says it has another length."""
    return lambda parts: joined(parts.header, parts.body, length=said)


def moved(by_start: int, by_end: int, which: str = "last") -> Build:
    """A tensor that says its bytes lie elsewhere."""

    def build(parts: Parts) -> bytes:
        offsets = parts.header[getattr(parts, which)]["data_offsets"]
        offsets[0] += by_start
        offsets[1] += by_end
        return joined(parts.header, parts.body)

    return build


def said(field: str, value: object) -> Build:
    """A tensor that says something else about itself."""

    def build(parts: Parts) -> bytes:
        parts.header[parts.last][field] = value
        return joined(parts.header, parts.body)

    return build


def hole(parts: Parts) -> bytes:
    for entry in parts.header.values():
        entry["data_offsets"] = [offset + 8 for offset in entry["data_offsets"]]
    return joined(parts.header, bytes(8) + parts.body)


def hole_between(parts: Parts) -> bytes:
    first = parts.header[parts.first]["data_offsets"][1]
    for name, entry in parts.header.items():
        if name != parts.first:
            entry["data_offsets"] = [offset + 8 for offset in entry["data_offsets"]]
    return joined(parts.header, parts.body[:first] + bytes(8) + parts.body[first:])


def overlap(parts: Parts) -> bytes:
    """Two tensors of one shape in the same bytes, the other's bytes cut out."""
    one = parts.header["model.layers.1.input_layernorm.weight"]
    other = parts.header["model.norm.weight"]
    other["data_offsets"] = list(one["data_offsets"])
    return joined(parts.header, parts.body)


def overlap_at_the_end(parts: Parts) -> bytes:
    entry = parts.header[parts.last]
    start, end = entry["data_offsets"]
    entry["data_offsets"] = [start - 4, end - 4]
    return joined(parts.header, parts.body[:-4])


def trailing(parts: Parts) -> bytes:
    return joined(parts.header, parts.body + b"\0")


def trailing_pickle(parts: Parts) -> bytes:
    return joined(parts.header, parts.body + b"\x80\x04cos\nsystem\n.")


def short(parts: Parts) -> bytes:
    return joined(parts.header, parts.body[:-1])


LAYOUTS: dict[str, tuple[Build, str]] = {
    "header longer than the file": (length(50 * MIB), "is cut off"),
    "header one byte longer than the file": (
        lambda parts: joined(
            parts.header, parts.body, length=len(written(parts.header)) + len(parts.body) + 1
        ),
        "is cut off",
    ),
    "header of over 100 MB": (length(100_000_001), TOO_LONG),
    "length of 2^31": (length(2**31), TOO_LONG),
    "length of 2^63": (length(2**63), TOO_LONG),
    "length of 2^64 - 1": (length(2**64 - 1), TOO_LONG),
    "length that wraps around": (length(2**64 - 8), TOO_LONG),
    "length of 0": (length(0), "does not begin with"),
    "length of 1": (length(1), "does not begin with"),
    "header cut in the middle": (length(100), "does not begin with { and end with }|is not JSON"),
    "hole at the beginning": (hole, "leaves a hole or overlaps"),
    "hole in the middle": (hole_between, "leaves a hole or overlaps"),
    "hole in the numbers only": (moved(4, 4), "leaves a hole or overlaps|its tensors end at"),
    "two tensors in the same bytes": (overlap, "leaves a hole or overlaps"),
    "overlap of one element": (overlap_at_the_end, "leaves a hole or overlaps"),
    "trailing byte": (trailing, "its tensors end at"),
    "trailing pickle": (trailing_pickle, "its tensors end at"),
    "last byte missing": (short, "its tensors end at"),
    "tensor one element too long": (moved(0, 4), "do not fill F32"),
    "tensor one element too short": (moved(0, -4), "do not fill F32"),
    "end before start": (moved(0, -(10**6)), "offsets|do not fill F32"),
    "offset of 2^63": (said("data_offsets", [0, 2**63]), "too large|do not fill F32"),
    "offset of 2^64": (said("data_offsets", [0, 2**64]), "too large|do not fill F32"),
    "negative offset": (said("data_offsets", [-128, 0]), "offsets that are not two"),
    "one offset": (said("data_offsets", [0]), "offsets that are not two"),
    "three offsets": (said("data_offsets", [0, 128, 256]), "offsets that are not two"),
    "shape too large": (said("shape", [33]), "do not fill F32"),
    "shape too small": (said("shape", [31]), "do not fill F32"),
    "shape whose product wraps to 32": (said("shape", [2**33, 2**31 + 1]), "do not fill F32"),
    "shape of 2^62 times 4": (said("shape", [2**31, 2**31, 4, 32]), "do not fill F32"),
    "negative shape": (said("shape", [-1, -32]), "positive integers"),
    "dtype of twice the bytes": (said("dtype", "F64"), "do not fill F64"),
    "dtype of half the bytes": (said("dtype", "BF16"), "do not fill BF16"),
    "dtype that does not exist": (said("dtype", "F31"), "unknown dtype"),
    "dtype that is no text": (said("dtype", 32), "unknown dtype"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_the_files_is_refused(hall: Hall, folder: Path, layout: str) -> None:
    build, rule = LAYOUTS[layout]
    tensors = honest_tensors(folder)
    data = build(taken_apart(folder / WEIGHTS))
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(SafetensorError):
        library_reads(data)
    hall.register_refuses(folder, rule)
    hall.refuses(hall.forge(folder, tensors=tensors), rule, path=WEIGHTS, growth_mb=64)


def test_all_of_them_are_refused_under_a_manifest_of_the_first_format(
    hall: Hall, folder: Path
) -> None:
    """It promises no headers, so the file is read as it is."""
    tensors = honest_tensors(folder, version=1)
    for build, rule in LAYOUTS.values():
        (folder / WEIGHTS).write_bytes(build(taken_apart(hall.folder / WEIGHTS)))
        hall.refuses_here(hall.forge(folder, tensors=tensors, version=1), rule, path=WEIGHTS)


def test_all_of_them_are_refused_when_they_come_from_blocks(hall: Hall, folder: Path) -> None:
    """The folder is gone; a block store gives the same bytes."""
    tensors = honest_tensors(folder)
    for build, rule in LAYOUTS.values():
        (folder / WEIGHTS).write_bytes(build(taken_apart(hall.folder / WEIGHTS)))
        case = hall.forge(folder, tensors=tensors)
        hall.refuses_here(Case(case.id, None), rule, path=WEIGHTS)


@pytest.mark.parametrize("size", range(9))
def test_a_file_without_room_for_a_header_is_refused(hall: Hall, folder: Path, size: int) -> None:
    (folder / WEIGHTS).write_bytes(bytes(size))
    entry = {"file": "extra.safetensors", "name": "x", "dtype": "U8", "shape": [1]}
    hall.register_refuses(folder, "is cut off|does not begin with")
    # The tensors are said to be in a file of zeros, which is long enough for them.
    (folder / "extra.safetensors").write_bytes(bytes(size))
    tensors = [entry | {"digest": "0x" + "00" * 32}, *honest_tensors(hall.folder)]
    case = hall.forge(folder, tensors=tensors)
    hall.refuses(case, "is cut off|does not begin with|does not fit into", path=".safetensors")


def test_a_header_of_over_100_mb_that_is_really_there_is_refused_unread(
    hall: Hall, folder: Path
) -> None:
    tensors = honest_tensors(folder)
    length = 100_000_001
    with (folder / WEIGHTS).open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(8 + length)
    hall.register_refuses(folder, f"its header of {length} bytes is over 100000000")
    case = hall.forge(folder, tensors=tensors, headers=headers_of_nothing())
    hall.refuses(case, "is over 100000000", path=WEIGHTS, growth_mb=32)


def headers_of_nothing() -> list[dict[str, str]]:
    return [{"path": WEIGHTS, "digest": "0x" + "00" * 32}]
