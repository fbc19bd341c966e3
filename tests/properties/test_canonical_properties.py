from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CanonicalError
from registry.signing.canonical import MAX_INTEGER, decode, encode

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
VALUES = st.recursive(
    TEXTS | INTEGERS,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(TEXTS, below, max_size=5),
    max_leaves=25,
)


@given(VALUES)
def test_what_is_encoded_is_decoded_to_the_same_value(value: object) -> None:
    data = encode(value)  # type: ignore[arg-type]
    assert decode(data) == value
    assert encode(decode(data)) == data


@given(VALUES)
def test_the_text_is_json_and_that_of_rfc_8785(value: object) -> None:
    data = encode(value)  # type: ignore[arg-type]
    assert json.loads(data) == value
    assert data == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(VALUES, st.randoms(use_true_random=False))
def test_one_value_has_one_text_whatever_the_order_of_its_keys(
    value: object, random: object
) -> None:
    def shuffled(item: object) -> object:
        if isinstance(item, dict):
            keys = list(item)
            random.shuffle(keys)  # type: ignore[attr-defined]
            return {key: shuffled(item[key]) for key in keys}
        return [shuffled(part) for part in item] if isinstance(item, list) else item

    assert encode(shuffled(value)) == encode(value)  # type: ignore[arg-type]


@given(VALUES, st.integers(0, 2**31), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_value(value: object, at: int, byte: int) -> None:
    data = bytearray(encode(value))  # type: ignore[arg-type]
    at %= len(data)
    if data[at] == byte:
        return
    data[at] = byte
    try:
        found = decode(bytes(data))
    except CanonicalError:
        return
    assert found != value


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_decoded_or_refused_with_our_error(data: bytes) -> None:
    try:
        value = decode(data)
    except CanonicalError:
        return
    assert encode(value) == data


@given(
    st.floats() | st.booleans() | st.none() | st.integers(MAX_INTEGER + 1), st.sampled_from("lod")
)
def test_floats_booleans_null_and_large_integers_are_refused_wherever_they_stand(
    value: object, place: str
) -> None:
    inside = {"l": [value], "o": {"a": value}, "d": {"a": [{"b": value}]}}[place]
    with pytest.raises(CanonicalError):
        encode(inside)  # type: ignore[arg-type]
