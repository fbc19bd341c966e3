from __future__ import annotations

import json
import subprocess
import sys

import pytest
import rfc8785

from registry.errors import CanonicalError
from registry.signing.canonical import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INTEGER,
    decode,
    decode_object,
    encode,
)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        True,
        None,
        {"a": None},
        [False],
        {1: "a"},
        b"bytes",
        {"a": b"bytes"},
        {"a"},
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        "\ud800",
        {"\ud800": 1},
        object(),
    ],
)
def test_a_value_that_is_not_signable_is_not_encoded(value: object) -> None:
    with pytest.raises(CanonicalError):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" {}",
        b"{} ",
        b"{}\n",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":true}',
        b'{"a":null}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'"\\u0041"',
        b'"\\ud800"',
        b'"\\/"',
        b"{'a':1}",
        b"[1,]",
        b"nonsense",
    ],
)
def test_bytes_that_are_not_the_one_text_of_a_value_are_refused(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        decode(data)


def test_more_bytes_than_allowed_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(CanonicalError, match="more than"):
        decode(b"[" * (MAX_BYTES + 1))
    with pytest.raises(CanonicalError, match="more than the 3"):
        decode(b'"ab"', max_bytes=3)


def test_deep_nesting_is_refused() -> None:
    for depth in (MAX_DEPTH + 1, 500, 5_000, MAX_BYTES // 2):
        with pytest.raises(CanonicalError):
            decode(b"[" * depth + b"]" * depth)
    nested: list[object] = []
    for _ in range(MAX_DEPTH):
        nested = [nested]
    with pytest.raises(CanonicalError, match="nested deeper"):
        encode(nested)  # type: ignore[arg-type]


def test_deep_nesting_does_not_crash_the_process_whatever_else_is_imported() -> None:
    # A library below web3 raises the recursion limit beyond what the stack holds.
    code = (
        "import registry.signing.signer, registry.chain.connection, web3, eth_account\n"
        "from registry.errors import CanonicalError\n"
        "from registry.signing.canonical import decode\n"
        "try:\n    decode(b'[' * 1000000)\n"
        "except CanonicalError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_what_is_not_an_object_is_refused_where_one_is_needed() -> None:
    for data in (b"[]", b'"a"', b"1"):
        with pytest.raises(CanonicalError, match="object"):
            decode_object(data)


def test_keys_are_sorted_as_utf_16_and_escapes_are_the_shortest() -> None:
    # RFC 8785 sorts by UTF-16 code units: the pair of U+1F600 begins below U+FB33.
    value = {"\ufb33": 1, "\U0001f600": 2, "b": '\u20ac\n\u000f"\\/', "a": [1, -1, ""]}
    text = encode(value)
    assert text == ('{"a":[1,-1,""],"b":"€\\n\\u000f\\"\\\\/","\U0001f600":2,"\ufb33":1}'.encode())
    assert decode(text) == value
    assert text == rfc8785.dumps(value)
    assert json.loads(text) == value


def test_the_deepest_and_largest_allowed_values_are_read_back() -> None:
    nested: list[object] = [MAX_INTEGER, -MAX_INTEGER]
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    assert decode(encode(nested)) == nested  # type: ignore[arg-type]
