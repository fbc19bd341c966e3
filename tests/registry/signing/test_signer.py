from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from registry.errors import KeyRefusedError, SignatureError
from registry.signing.signer import Signer, recover, refuse_well_known, well_known_addresses

DIGEST = keccak(b"a statement")
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_published_keys_are_refused_on_every_chain_but_the_devnet() -> None:
    for chain_id in (1, 8453, 31338, 0):
        with pytest.raises(KeyRefusedError, match="published"):
            Signer.anvil(0, chain_id=chain_id)
        with pytest.raises(KeyRefusedError):
            refuse_well_known(Signer.anvil(9, chain_id=31337).address, chain_id)
    refuse_well_known(Signer.random().address, 1)


def test_anvil_has_ten_accounts() -> None:
    for index in (-1, 10):
        with pytest.raises(KeyRefusedError):
            Signer.anvil(index, chain_id=31337)
    assert len(well_known_addresses()) == 10
    assert Signer.anvil(0, chain_id=31337).address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.mark.parametrize("length", [0, 64, 66])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(SignatureError, match="65 bytes"):
        recover(DIGEST, bytes(length))


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_a_signature_with_another_recovery_byte_is_refused(v: int) -> None:
    signature = Signer.random().sign_digest(DIGEST)
    with pytest.raises(SignatureError, match="27 or 28"):
        recover(DIGEST, signature[:64] + bytes([v]))


def test_the_other_half_of_a_signature_is_refused() -> None:
    signature = Signer.random().sign_digest(DIGEST)
    high = _ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + high.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(SignatureError, match="upper half"):
        recover(DIGEST, twin)


@pytest.mark.parametrize("r", [0, _ORDER, 2**256 - 1])
def test_a_signature_of_no_point_is_refused(r: int) -> None:
    with pytest.raises(SignatureError):
        recover(DIGEST, r.to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x1b")


def test_a_changed_digest_recovers_another_address() -> None:
    signer = Signer.random()
    assert recover(keccak(b"another"), signer.sign_digest(DIGEST)) != signer.address


def test_a_signature_recovers_its_signer_as_eth_account_does() -> None:
    for _ in range(20):
        signer = Signer.random()
        signature = signer.sign_digest(DIGEST)
        assert recover(DIGEST, signature) == signer.address
        assert Account._recover_hash(DIGEST, signature=signature) == signer.address
        assert Account.from_key(signer.secret()).address == signer.address


def test_a_keystore_opens_with_its_password_only(tmp_path: Path) -> None:
    signer, path = Signer.random(), tmp_path / "key.json"
    signer.to_keystore(path, "correct")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyRefusedError, match="cannot open") as caught:
        Signer.from_keystore(path, "wrong")
    assert "wrong" not in str(caught.value)
    assert Signer.from_keystore(path, "correct").address == signer.address


def test_a_file_that_is_no_keystore_is_refused(tmp_path: Path) -> None:
    for text in ("", "{}", "[]", json.dumps({"version": 3, "crypto": {}}), '{"crypto": 1}'):
        path = tmp_path / "key.json"
        path.write_text(text)
        with pytest.raises(KeyRefusedError):
            Signer.from_keystore(path, "any")
    with pytest.raises(KeyRefusedError):
        Signer.from_keystore(tmp_path / "missing.json", "any")


def test_a_keystore_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("precious")
    with pytest.raises(KeyRefusedError, match="cannot write"):
        Signer.random().to_keystore(path, "any")
    assert path.read_text() == "precious"


def test_a_key_is_not_shown() -> None:
    signer = Signer.random()
    assert signer.secret().hex() not in repr(signer) + str(signer) + str(vars(signer))
