"""Row 8: bytes that two JSON parsers could read as two manifests, or that exhaust one.

Each is recorded on chain by its digest and vouched for: only the parser stands in the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import manifest_for

pytestmark = pytest.mark.timeout(120)
STEP = r"step 2 \(manifest\): .*"
Spoil = Callable[[bytes], bytes]


@pytest.fixture
def manifest(hall: Hall, folder: Path) -> dict[str, Any]:
    return manifest_for(hall, folder)


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def first(old: bytes, new: bytes) -> Spoil:
    """Replace the first `old`, which must be there."""

    def spoil(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return spoil


# What is done to the canonical text, and the rule that must be named
SPOILT: dict[str, tuple[Spoil, str]] = {
    "a duplicate key": (first(b'{"', b'{"name":"other","'), "duplicate key 'name'"),
    "a duplicate key, same value": (first(b'"task":"chat"', b'"task":"chat","task":"chat"'), "dup"),
    "a duplicate key inside": (first(b'"size":', b'"size":1,"size":'), "duplicate key 'size'"),
    "a duplicate key by escape": (first(b'"task":', b'"t\\u0061sk":"embed","task":'), "dup"),
    "NaN": (first(b'"max_output":32', b'"max_output":NaN'), "NaN is not an integer"),
    "Infinity": (first(b'"max_output":32', b'"max_output":Infinity'), "Infinity is not"),
    "minus Infinity": (first(b'"max_output":32', b'"max_output":-Infinity'), "Infinity is not"),
    "a float": (first(b'"max_output":32', b'"max_output":32.0'), "32.0 is not an integer"),
    "an exponent": (first(b'"max_output":32', b'"max_output":32e0'), "32e0 is not an integer"),
    "a huge exponent": (first(b'"max_output":32', b'"max_output":1e999'), "1e999 is not"),
    "minus zero": (first(b'"max_output":32', b'"max_output":-0'), "not canonical"),
    "a leading zero": (first(b'"max_output":32', b'"max_output":032'), "not JSON"),
    "a plus sign": (first(b'"max_output":32', b'"max_output":+32'), "not JSON"),
    "hexadecimal": (first(b'"max_output":32', b'"max_output":0x20'), "not JSON"),
    "a negative size": (first(b'"max_output":32', b'"max_output":-32'), "not negative"),
    "2^53": (first(b'"max_output":32', b'"max_output":9007199254740992'), r"beyond 2\^53"),
    "a million digits": (
        first(b'"max_output":32', b'"max_output":' + b"9" * 1_000_000),
        r"beyond 2\^53",
    ),
    "true": (first(b'"max_output":32', b'"max_output":true'), "True is neither"),
    "null": (first(b'"metrics":{}', b'"metrics":null'), "None is neither"),
    "an object for a list": (first(b'"parents":[]', b'"parents":{}'), "parents is not a list"),
    "a list for a text": (first(b'"task":"chat"', b'"task":["chat"]'), "task is not a text"),
    "trailing bytes": (lambda data: data + b"{}", "Extra data"),
    "a trailing newline": (lambda data: data + b"\n", "not canonical"),
    "a trailing NUL": (lambda data: data + b"\0", "not JSON"),
    "a second manifest": (lambda data: data + data, "Extra data"),
    "a leading space": (lambda data: b" " + data, "not canonical"),
    "a byte order mark": (lambda data: b"\xef\xbb\xbf" + data, "not JSON"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "not UTF-8"),
    "UTF-32": (lambda data: data.decode().encode("utf-32-le"), "not JSON"),
    "Latin-1": (first(b'"task":"chat"', b'"task":"ch\xe4t"'), "not UTF-8"),
    "overlong UTF-8": (first(b'"task":"chat"', b'"task":"ch\xc1\xa1t"'), "not UTF-8"),
    "a lone surrogate": (first(b'"task":"chat"', b'"task":"ch\\ud800t"'), "not encodable"),
    "an escaped letter": (first(b'"task":"chat"', b'"task":"ch\\u0061t"'), "not canonical"),
    "an escaped slash": (first(b"weightproof/model", b"weightproof\\/model"), "not canonical"),
    "a control character": (first(b'"task":"chat"', b'"task":"ch\nat"'), "not JSON"),
    "spaces": (lambda data: json.dumps(json.loads(data), sort_keys=True).encode(), "not canonical"),
    "keys not in order": (
        lambda data: json.dumps(
            dict(reversed(json.loads(data).items())), separators=(",", ":")
        ).encode(),
        "not canonical",
    ),
    "single quotes": (lambda data: data.replace(b'"', b"'"), "not JSON"),
    "a comment": (lambda data: b"/* good */" + data, "not JSON"),
    "a trailing comma": (lambda data: data[:-1] + b",}", "not JSON"),
    "cut off": (lambda data: data[:-1], "not JSON"),
    "nothing": (lambda data: b"", "not JSON"),
    "a list": (lambda data: b"[" + data + b"]", "not a JSON object"),
    "a text": (lambda data: b'"model"', "not a JSON object"),
    "a number": (lambda data: b"7", "not a JSON object"),
    "a pickle": (lambda data: b"\x80\x04N.", "not UTF-8"),
    "HTML": (lambda data: b"<!doctype html><title>200 OK</title>", "not JSON"),
    "CBOR": (lambda data: b"\xa1\x64name\x61x", "not UTF-8"),
    "17 levels": (first(b'"metrics":{}', b'"metrics":' + b"[" * 16 + b"]" * 16), "deeper than 16"),
    "100 000 levels": (
        first(b'"metrics":{}', b'"metrics":' + b"[" * 100_000 + b"]" * 100_000),
        "deeper than 16",
    ),
    "100 000 levels, unclosed": (lambda data: b'{"a":' * 100_000, "deeper than 16"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_manifest_that_is_no_canonical_json_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], what: str
) -> None:
    spoil, rule = SPOILT[what]
    data = spoil(canonical(manifest))
    assert data != canonical(manifest)
    hall.refuses(Case(hall.publish(data), folder), STEP + rule, seconds=10)


@pytest.mark.parametrize("size", [1 << 20, 2 << 20])
def test_a_manifest_of_more_than_a_mebibyte_is_refused_unread(
    hall: Hall, folder: Path, manifest: dict[str, Any], size: int
) -> None:
    manifest["metrics"] = {f"{number:07}": "1" for number in range(size // 14 + 1)}
    data = canonical(manifest)
    assert len(data) > 1 << 20
    data = data[: 2 << 20]
    hall.refuses(Case(hall.publish(data), folder), STEP + "more than the 1048576 allowed")


def test_a_mebibyte_itself_is_read(hall: Hall, folder: Path, manifest: dict[str, Any]) -> None:
    """The limit is where it is said to be: this one is refused for its name, not for its size."""
    missing = (1 << 20) - len(canonical({**manifest, "name": ""}))
    data = canonical({**manifest, "name": "n" * missing})
    assert len(data) == 1 << 20
    hall.refuses(Case(hall.publish(data), folder), STEP + "name is not 1 to 256 printable")


# Fields


def edited(manifest: dict[str, Any], where: tuple[str | int, ...], **fields: Any) -> bytes:
    """Set fields of the object that stands at `where`; None removes one."""
    copy = json.loads(json.dumps(manifest))
    found = copy
    for step in where:
        found = found[step]
    found.update(fields)
    for name in [name for name, value in fields.items() if value is None]:
        del found[name]
    return canonical(copy)


@pytest.mark.parametrize(
    "where",
    [
        (),
        ("files", 0),
        ("tensors", 0),
        ("serving",),
        ("headers", 0),
        ("golden",),
        ("golden", "texts", 0),
        ("golden", "chats", 0),
    ],
    ids=str,
)
def test_an_unknown_field_is_refused_wherever_it_stands(
    hall: Hall, folder: Path, manifest: dict[str, Any], where: tuple[str | int, ...]
) -> None:
    data = edited(manifest, where, trust_remote_code=1)
    hall.refuses(
        Case(hall.publish(data), folder), STEP + "has an unknown field 'trust_remote_code'"
    )


@pytest.mark.parametrize(
    "name",
    [
        "format",
        "name",
        "task",
        "architecture",
        "root",
        "files",
        "tensors",
        "parents",
        "metrics",
        "serving",
        "headers",
    ],
)
def test_a_field_that_is_missing_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], name: str
) -> None:
    data = edited(manifest, (), **{name: None})
    hall.refuses(Case(hall.publish(data), folder), STEP + f"lacks {name}|headers")


@pytest.mark.parametrize(
    "format",
    [
        "weightproof/model@3",
        "weightproof/model",
        "weightproof/model@02",
        "WEIGHTPROOF/MODEL@2",
        "weightproof/dataset@2",
        "model-signing/v1.0",
        "",
    ],
)
def test_a_format_that_is_not_known_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], format: str
) -> None:
    data = edited(manifest, (), format=format)
    hall.refuses(Case(hall.publish(data), folder), STEP + "is no manifest format")


def test_a_new_manifest_that_poses_as_an_old_one_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    data = edited(manifest, (), format="weightproof/model@1")
    hall.refuses(Case(hall.publish(data), folder), STEP + "has an unknown field")


# Digests

TRUE = "0x" + "ab" * 32
DIGESTS = {
    "upper case": TRUE.upper().replace("0X", "0x"),
    "an upper-case prefix": "0X" + "ab" * 32,
    "no prefix": "ab" * 32,
    "short": TRUE[:-1],
    "shorter": TRUE[:-2],
    "long": TRUE + "ab",
    "empty": "",
    "only the prefix": "0x",
    "md5": "0x" + "ab" * 16,
    "sha1": "0x" + "ab" * 20,
    "sha512": "0x" + "ab" * 64,
    "md5 by name": "md5:" + "ab" * 16,
    "sha1 by name": "sha1:" + "ab" * 20,
    "sha256 by name": "sha256:" + "ab" * 32,
    "unknown by name": "blake9:" + "ab" * 32,
    "subresource": "sha256-" + "q" * 43 + "=",
    "no hexadecimal": "0x" + "xy" * 32,
    "a space": "0x" + "ab" * 31 + "a ",
    "a newline": TRUE + "\n",
    "other digits": "0x" + "\uff11" * 64,
}


@pytest.mark.parametrize("what", DIGESTS)
@pytest.mark.parametrize("where", ["tensors", "headers"])
def test_a_digest_in_any_other_form_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], where: str, what: str
) -> None:
    data = edited(manifest, (where, 0), digest=DIGESTS[what])
    hall.refuses(Case(hall.publish(data), folder), STEP + rf"{where}\[0\].*digest")


def test_the_same_manifest_unspoilt_is_loaded(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    hall.accepts(Case(hall.publish(canonical(manifest)), folder))
