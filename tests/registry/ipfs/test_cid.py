from __future__ import annotations

import pytest

from registry.errors import CidError
from registry.ipfs.cid import DAG_PB, RAW, Cid

HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


@pytest.mark.parametrize(
    "text",
    [
        "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD",
        HELLO.upper(),
        HELLO[:-1],
        HELLO + "a",
        HELLO + "=",
        " " + HELLO[1:],
        "z" + HELLO[1:],
        # The last character carries two bits that no byte holds; they must be zero.
        HELLO[:-1] + "f",
        HELLO[:-1] + "1",
        HELLO[:-1] + "é",
        "",
    ],
)
def test_a_text_that_is_not_the_one_text_of_a_cid_is_refused(text: str) -> None:
    with pytest.raises(CidError):
        Cid.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x55\x00\x20" + bytes(32),  # the identity hash
        b"\x01\x55\x13\x20" + bytes(32),  # sha2-512
        b"\x01\x71\x12\x20" + bytes(32),  # dag-cbor
        b"\x02\x55\x12\x20" + bytes(32),  # CIDv2
        b"\x01\x55\x12\x1f" + bytes(31),  # a short digest
        b"\x12\x20" + bytes(32),  # CIDv0
        b"\x01\x55\x12\x20" + bytes(33),
        b"",
    ],
)
def test_bytes_of_another_version_codec_or_hash_are_refused(data: bytes) -> None:
    with pytest.raises(CidError):
        Cid.from_bytes(data)


def test_a_cid_of_an_unknown_codec_or_a_short_digest_cannot_be_made() -> None:
    with pytest.raises(CidError):
        Cid("dag-cbor", bytes(32))  # type: ignore[arg-type]
    with pytest.raises(CidError):
        Cid(RAW, bytes(31))


def test_raw_and_dag_pb_of_the_same_digest_are_two_names() -> None:
    assert Cid(RAW, bytes(32)) != Cid(DAG_PB, bytes(32))
    assert str(Cid(DAG_PB, bytes(32))).startswith("bafybei")


def test_a_block_has_the_name_that_ipfs_gives_it() -> None:
    cid = Cid.of_block(RAW, b"hello world")
    assert str(cid) == HELLO
    assert Cid.parse(HELLO) == cid == Cid.from_bytes(cid.to_bytes())
    assert cid.matches(b"hello world")
    assert not cid.matches(b"hello worle")
