"""The settings file: what is wrong is refused by name, what is said is meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import KeyConfig, RegistryConfig, checked_address, find_file, load
from registry.devnet_file import ROLES, add_model, prepare_devnet
from registry.errors import ConfigError, KeyRefusedError
from registry.policy import GIB
from registry.signing.signer import ANVIL_CHAIN_ID, Signer

PUBLISHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ATTESTER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
TEXT = f"""\
[chain]
rpc_url = "http://127.0.0.1:8545"
chain_id = 31337
finality = 12

[contracts]
model_registry = "{PUBLISHER}"
attestations = "{PUBLISHER}"
audit_anchor = "{PUBLISHER}"
payment_channels = "{PUBLISHER}"
deposit_collector = "{PUBLISHER}"
from_block = 7

[store]
folder = "blocks"
gateways = ["https://gateway.test"]

[keys]
publisher = "anvil:1"
node = "node.json"

[policy]
publishers = ["{PUBLISHER}"]
attesters = ["{ATTESTER.lower()}"]
"""
# Replaces the first text by the second in TEXT, and reads the settings.
Read = Callable[..., RegistryConfig]


@pytest.fixture(autouse=True)
def _without_the_callers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "RPC_URL", "PASSWORD"):
        monkeypatch.delenv(f"WEIGHTPROOF_{name}", raising=False)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(old: str = "", new: str = "") -> RegistryConfig:
        assert old in TEXT
        path = tmp_path / "weightproof.toml"
        path.write_text(TEXT.replace(old, new, 1))
        return load(path)

    return read


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[policy]", "[polcy]", "unknown setting polcy"),
        ("[chain]", "colour = 1\n[chain]", "unknown setting colour"),
        ("chain_id", "chainid", "unknown setting chain.chainid"),
        ("gateways", "gateway", "unknown setting store.gateway"),
        ("attesters", "atesters", "unknown setting policy.atesters"),
        ("model_registry", "registry", "registry"),
        ('rpc_url = "http://127.0.0.1:8545"\n', "", "setting chain.rpc_url is missing"),
        ('"http://127.0.0.1:8545"', "8545", "chain.rpc_url must be text in quotes"),
        ("31337", '"31337"', "chain.chain_id must be a whole number"),
        ("31337", "0", "chain.chain_id must be an integer from 1"),
        ("31337", "true", "chain.chain_id must be an integer from 1"),
        ('["https://gateway.test"]', '"https://gateway.test"', "store.gateways must be a list"),
        ('["https://gateway.test"]', "[1]", "store.gateways must be a list of texts"),
        ("from_block = 7", "from_block = -1", "contracts.from_block must be an integer from 0"),
        ("[store]", "[[store]]", "store must be a table"),
        (PUBLISHER, PUBLISHER.lower(), "model_registry"),
        (f'"{PUBLISHER}"]', '"somebody"]', "policy.publishers: 'somebody' is not an address"),
        ('"anvil:1"', "1", "keys.publisher must be text in quotes"),
        ("[keys]", '[keys]\npassword_file = "none"', "keys.password_file none"),
        ("[policy]", "[policy", "weightproof.toml"),
        ("[policy]", "[chain]", "weightproof.toml"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(read: Read, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        read(old, new)
    assert refusal.value.exit_code == 2


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weightproof.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"weightproof\.toml"):
        load(path)
    (tmp_path / "password").write_bytes(b"\xff")
    path.write_text(TEXT.replace("[keys]", '[keys]\npassword_file = "password"'))
    with pytest.raises(ConfigError, match="not text"):
        load(path)


def test_a_file_that_is_not_there_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no weightproof\.toml here or above") as refusal:
        find_file()
    assert "weightproof devnet" in refusal.value.hint
    monkeypatch.setenv("WEIGHTPROOF_CONFIG", "other.toml")
    with pytest.raises(ConfigError, match=r"no settings file other\.toml"):
        find_file()


def test_a_role_without_a_key_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match="no key of role 'payer'") as refusal:
        read().keys.signer("payer", chain_id=ANVIL_CHAIN_ID)
    assert "[keys]" in refusal.value.hint


@pytest.mark.parametrize("reference", ["anvil:1", "anvil:9"])
def test_a_published_key_is_refused_off_the_devnet(reference: str, tmp_path: Path) -> None:
    with pytest.raises(KeyRefusedError, match="published keys"):
        KeyConfig({}, tmp_path).open(reference, chain_id=8453)


def test_a_published_key_is_refused_in_a_keystore_too(tmp_path: Path) -> None:
    Signer.anvil(1, chain_id=ANVIL_CHAIN_ID).to_keystore(tmp_path / "key.json", "secret")
    keys = KeyConfig({}, tmp_path, "secret")
    with pytest.raises(KeyRefusedError, match="published keys"):
        keys.open("key.json", chain_id=1)
    assert keys.open("key.json", chain_id=ANVIL_CHAIN_ID).address == PUBLISHER


@pytest.mark.parametrize("reference", ["anvil:10", "anvil:", "anvil:-1", "anvil:²", "none.json"])
def test_a_key_that_does_not_exist_is_refused(reference: str, tmp_path: Path) -> None:
    with pytest.raises(KeyRefusedError):
        KeyConfig({}, tmp_path).open(reference, chain_id=ANVIL_CHAIN_ID)


def test_a_keystore_without_a_password_says_where_to_give_it(tmp_path: Path) -> None:
    Signer.random().to_keystore(tmp_path / "key.json", "secret")
    with pytest.raises(KeyRefusedError, match=r"key\.json") as refusal:
        KeyConfig({}, tmp_path).open("key.json", chain_id=1)
    assert "WEIGHTPROOF_PASSWORD" in refusal.value.hint
    with pytest.raises(KeyRefusedError, match=r"key\.json") as refusal:
        KeyConfig({}, tmp_path, "wrong").open("key.json", chain_id=1)
    assert "check the file and the password" in refusal.value.hint


@pytest.mark.parametrize("text", ["", "0x12", "vitalik.eth", PUBLISHER[:-1] + "9", PUBLISHER[:-1]])
def test_a_text_that_is_no_address_is_refused_with_the_settings_name(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"payee: {text!r} is not an address")):
        checked_address(text, "payee")


def test_the_folder_of_another_chain_is_refused(tmp_path: Path) -> None:
    with Devnet.start() as net:
        prepare_devnet(Chain(net.rpc_url), tmp_path, net.rpc_url)
    with Devnet.start() as net, pytest.raises(ConfigError, match="belongs to another chain"):
        prepare_devnet(Chain(net.rpc_url), tmp_path, net.rpc_url)


def test_an_empty_list_of_publishers_trusts_nobody_and_none_at_all_everybody(read: Read) -> None:
    line = f'publishers = ["{PUBLISHER}"]\n'
    assert read(line, "publishers = []\n").policy.publishers == frozenset()
    assert read(line, "").policy.publishers is None


def test_an_address_in_lower_case_is_the_same_address() -> None:
    assert checked_address(PUBLISHER.lower(), "payee") == PUBLISHER
    assert checked_address(PUBLISHER, "payee") == PUBLISHER


def test_what_is_written_is_what_is_meant(read: Read, tmp_path: Path) -> None:
    config = read()
    assert (config.chain.chain_id, config.chain.finality, config.chain.timeout_s) == (31337, 12, 10)
    assert config.contracts.from_block == 7
    assert config.store.folder == tmp_path / "blocks"
    assert config.store.gateways == ("https://gateway.test",)
    assert config.policy.publishers == {PUBLISHER}
    assert config.policy.attesters == {ATTESTER}
    assert (config.policy.min_attestations, config.policy.max_bytes) == (1, 64 * GIB)
    assert config.keys.signer("publisher", chain_id=ANVIL_CHAIN_ID).address == PUBLISHER


def test_sections_of_the_node_are_left_to_the_node(read: Read) -> None:
    assert read("[chain]", "node = 1\nmodels = 2\n[chain]").chain.chain_id == 31337


def test_the_file_is_the_nearest_upwards_or_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "a" / "weightproof.toml", tmp_path / "weightproof.toml"
    (tmp_path / "a" / "b").mkdir(parents=True)
    far.touch()
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert find_file() == far
    near.touch()
    assert find_file() == near
    monkeypatch.setenv("WEIGHTPROOF_CONFIG", str(far))
    assert find_file() == far
    assert find_file(near) == near


def test_the_environment_goes_before_the_file(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("from the file\n")
    line = ("[keys]", '[keys]\npassword_file = "password"')
    assert read(*line).keys.password == "from the file"
    monkeypatch.setenv("WEIGHTPROOF_PASSWORD", "from the environment")
    monkeypatch.setenv("WEIGHTPROOF_RPC_URL", "http://127.0.0.1:1")
    config = read(*line)
    assert config.keys.password == "from the environment"
    assert config.chain.rpc_url == "http://127.0.0.1:1"
    # Where the environment gives the password, the file need not be there.
    (tmp_path / "password").unlink()
    assert read(*line).keys.password == "from the environment"


def test_a_password_is_not_shown(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTPROOF_PASSWORD", "correct horse")
    assert "correct horse" not in repr(read())


def test_a_devnet_writes_settings_that_can_be_read_and_keeps_what_its_owner_added(
    tmp_path: Path,
) -> None:
    with Devnet.start(state=tmp_path / "state.json") as net:
        path, deployment = prepare_devnet(Chain(net.rpc_url), tmp_path / "net", net.rpc_url)
    config = load(path)
    assert config.contracts == deployment
    assert config.chain.finality == "latest"
    keys = [config.keys.signer(role, chain_id=ANVIL_CHAIN_ID).address for role in ROLES]
    assert len(set(keys)) == len(ROLES)
    assert config.policy.publishers == {keys[1]}
    assert config.policy.attesters == {keys[2]}
    add_model(path, "mine", bytes(32), {"per_call": 1})
    with Devnet.start(state=tmp_path / "state.json") as net:
        again, found = prepare_devnet(Chain(net.rpc_url), tmp_path / "net", net.rpc_url)
        assert load(again).chain.rpc_url == net.rpc_url
    assert found == deployment
    assert 'name = "mine"' in again.read_text()
