"""Row 17: headers that are odd in ways which the safetensors library lets pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Case, Hall
from tests.attacks.safetensors_bytes import (
    WEIGHTS,
    Parts,
    joined,
    taken_apart,
    written,
)

Build = Callable[[Parts], bytes]
# A terminal shows the first as a title, the second reads from right to left.
NAMES = {
    "path upwards": "../../etc/x",
    "absolute path": "/etc/passwd",
    "path downwards": "model/norm.weight",
    "backslashes": "..\\..\\x",
    "drive letter": "C:\\x",
    "escape code": "\x1b]0;x\x07",
    "NUL": "model\x00.weight",
    "line break": "model\n.weight",
    "delete": "model\x7f.weight",
    "C1 control": "model\x9b.weight",
    "from right to left": "model\u202e.weight",
    "invisible space": "model\u200b.weight",
    "space": "model .weight",
    "look-alike": "m\u043edel.norm.weight",
    "full-width": "\uff4dodel.norm.weight",
    "lone surrogate": "model\ud800.weight",
    "too long": "x" * 513,
    "much too long": "x" * 100_000,
    "empty": "",
}


def renamed(name: str) -> Build:
    def build(parts: Parts) -> bytes:
        parts.header[name] = parts.header.pop(parts.last)
        return joined(parts.header, parts.body)

    return build


def entry_with(**more: Any) -> Build:
    def build(parts: Parts) -> bytes:
        parts.header[parts.last] |= more
        return joined(parts.header, parts.body)

    return build


def text(change: Callable[[bytes], bytes]) -> Build:
    """A header whose text is changed as a whole."""
    return lambda parts: joined(change(written(parts.header)), parts.body)


def empty_tensor(shape: list[int]) -> Build:
    def build(parts: Parts) -> bytes:
        end = len(parts.body)
        parts.header["x"] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end]}
        return joined(parts.header, parts.body)

    return build


def crowd(number: int) -> Build:
    """So many tensors of one byte."""

    def build(_: Parts) -> bytes:
        header = {
            f"t{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]}
            for n in range(number)
        }
        return joined(header, bytes(number))

    return build


def metadata(value: Any) -> Build:
    return lambda parts: joined({"__metadata__": value, **parts.header}, parts.body)


FIELDS = "has not exactly the fields"
SHAPE = "positive integers"
BEGIN = "does not begin with { and end with }"
# What it is, how it is built, the rule, and whether the library accepts it.
ODDITIES: list[tuple[str, Build, str, bool]] = [
    ("unknown field", entry_with(note="x"), FIELDS, True),
    ("unknown field of code", entry_with(_target_="os.system"), FIELDS, True),
    ("unknown field that is empty", entry_with(**{"": None}), FIELDS, True),
    ("leading space", text(lambda header: b" " + header), BEGIN, True),
    ("leading spaces", text(lambda header: b" " * 4096 + header), BEGIN, True),
    ("leading tab", text(lambda header: b"\t" + header), BEGIN, True),
    ("leading line break", text(lambda header: b"\n" + header), BEGIN, True),
    ("trailing line break", text(lambda header: header + b"\n"), BEGIN, True),
    ("line break within", text(lambda header: header.replace(b",", b",\n")), "line break", True),
    ("byte order mark", text(lambda header: b"\xef\xbb\xbf" + header), BEGIN, False),
    ("trailing NUL", text(lambda header: header + b"\0"), BEGIN, False),
    ("second object", text(lambda header: header + b"{}"), "is not JSON", False),
    ("not UTF-8", text(lambda header: header.replace(b"norm", b"n\xffrm", 1)), "JSON", False),
    ("nesting", entry_with(shape=json.loads("[" * 200 + "]" * 200)), SHAPE, False),
    (
        "endless nesting",
        text(lambda header: b'{"x":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
        "is not JSON",
        False,
    ),
    ("endless number", entry_with(shape=[10**4000]), "number too large", False),
    ("no tensors", lambda _: joined(b"{}", b""), "has 0 tensors", True),
    ("metadata only", lambda _: joined({"__metadata__": {"a": "b"}}, b""), "has 0 tensors", True),
    ("shape [0, 10^12]", empty_tensor([0, 10**12]), SHAPE, True),
    ("shape [10^12, 0]", empty_tensor([10**12, 0]), SHAPE, True),
    ("shape [0]", empty_tensor([0]), SHAPE, True),
    ("shape of true", entry_with(shape=[True, 32]), SHAPE, False),
    ("shape of fractions", entry_with(shape=[32.0]), "not an integer", False),
    ("shape of texts", entry_with(shape=["32"]), SHAPE, False),
    ("shape that is a number", entry_with(shape=32), SHAPE, False),
    ("shape of 17 dimensions", entry_with(shape=[1] * 16 + [32]), SHAPE, True),
    ("shape of 100,000 dimensions", entry_with(shape=[1] * 10**5 + [32]), SHAPE, True),
    ("tensor that is null", text(lambda header: header[:-1] + b',"x":null}'), FIELDS, False),
    ("tensor that is a list", text(lambda header: header[:-1] + b',"x":[]}'), FIELDS, False),
    ("type narrower than a byte", entry_with(dtype="F4", shape=[256]), "unknown dtype", True),
    ("more than 100,000 tensors", crowd(100_001), "has 100001 tensors", True),
    ("metadata of numbers", metadata({"a": 1}), "__metadata__ is not an object of", False),
    ("metadata of objects", metadata({"a": {"b": "c"}}), "__metadata__ is not an object", False),
    ("metadata that is a text", metadata("x"), "__metadata__ is not an object", False),
    ("metadata that is null", metadata(None), "__metadata__ is not an object", True),
    *(
        (f"name: {kind}", renamed(name), "too long or has odd characters", kind != "lone surrogate")
        for kind, name in NAMES.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "rule", "accepted"),
    [odd[1:] for odd in ODDITIES],
    ids=[odd[0] for odd in ODDITIES],
)
def test_a_header_that_is_odd_is_refused(
    hall: Hall, folder: Path, build: Build, rule: str, accepted: bool
) -> None:
    data = build(taken_apart(folder / WEIGHTS))
    assert library_accepts(data) == accepted, "the attack is not what its name says"
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(data)
    hall.register_refuses(folder, rule)
    if len(data) < 10_000:
        # Where nothing would fit, the manifest's own arithmetic is in the way.
        tensors = [entry("x") | {"shape": [1], "dtype": "U8"}]
    refusal = hall.refuses(
        hall.forge(folder, tensors=tensors), f"{rule}|does not fit into", path=WEIGHTS
    )
    # Whatever a name holds, what is shown of it can be shown.
    assert refusal.text.isprintable()
    assert len(refusal.text) < 400


def test_all_of_them_are_refused_under_a_manifest_of_the_first_format(
    hall: Hall, folder: Path
) -> None:
    """It promises no headers, so the file is read as it is."""
    tensors = honest_tensors(folder, version=1)
    for _, build, rule, _ in ODDITIES:
        data = build(taken_apart(hall.folder / WEIGHTS))
        if len(data) < 10_000:
            continue
        (folder / WEIGHTS).write_bytes(data)
        hall.refuses_here(hall.forge(folder, tensors=tensors, version=1), rule, path=WEIGHTS)


def test_all_of_them_are_refused_when_they_come_from_blocks(hall: Hall, folder: Path) -> None:
    """The folder is gone; a block store gives the same bytes."""
    tensors = honest_tensors(folder)
    for _, build, rule, _ in ODDITIES:
        data = build(taken_apart(hall.folder / WEIGHTS))
        if len(data) < 10_000:
            continue
        (folder / WEIGHTS).write_bytes(data)
        case = hall.forge(folder, tensors=tensors)
        hall.refuses_here(Case(case.id, None), rule, path=WEIGHTS)


@pytest.mark.parametrize("kind", NAMES)
def test_an_odd_name_is_refused_in_a_manifest_that_lists_it(
    hall: Hall, folder: Path, kind: str
) -> None:
    parts = taken_apart(folder / WEIGHTS)
    last, name = parts.last, NAMES[kind]
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(renamed(name)(parts))
    for tensor in tensors:
        tensor["name"] = name if tensor["name"] == last else tensor["name"]
    tensors.sort(key=lambda tensor: tensor["name"])
    hall.refuses(
        hall.forge(folder, tensors=tensors),
        r"step 2.*(name is not|not UTF-8|canonical|surrogate)|name that is too long or has odd",
    )


@pytest.mark.parametrize("shape", [[0, 10**12], [10**12, 0], [0]], ids=str)
def test_a_tensor_without_elements_is_refused_in_a_manifest_that_lists_it(
    hall: Hall, folder: Path, shape: list[int]
) -> None:
    data = empty_tensor(shape)(taken_apart(folder / WEIGHTS))
    tensors = [*honest_tensors(folder), entry("x") | {"shape": shape}]
    (folder / WEIGHTS).write_bytes(data)
    hall.refuses(hall.forge(folder, tensors=tensors), r"step 2.*shape of tensor x is not positive")


def test_a_hundred_thousand_tensors_are_refused_in_bounded_time(hall: Hall, folder: Path) -> None:
    """Within the limit of tensors, but more than a manifest can list."""
    tensors = honest_tensors(folder)
    (folder / WEIGHTS).write_bytes(crowd(100_000)(taken_apart(folder / WEIGHTS)))
    case = hall.forge(folder, tensors=tensors)
    hall.refuses(case, "not as the manifest lists it|as listed", path=WEIGHTS, seconds=15)


def entry(name: str) -> dict[str, Any]:
    """Return a tensor as a manifest lists it."""
    return {"file": WEIGHTS, "name": name, "dtype": "F32", "shape": [1], "digest": "0x" + "00" * 32}


def library_accepts(data: bytes) -> bool:
    """Return whether the library reads the header; what it makes of the tensors does not count."""
    import safetensors

    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return False
    return True
