"""The settings of endpoints and of pinned code: wrong ones are refused, secrets are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.witnessed import WitnessedChain
from registry.config import RegistryConfig, load
from registry.devnet_file import prepare_devnet
from registry.errors import ChainMismatchError, ConfigError
from registry.workspace import Workspace

RPC = "http://127.0.0.1:8545"


def written(
    folder: Path, deployment: Deployment, chain: str = "", contracts: str = "", rpc_url: str = RPC
) -> RegistryConfig:
    values = deployment.to_json()
    del values["chain_id"]
    addresses = "".join(
        f"{name} = {value if isinstance(value, int) else repr(value)}\n"
        for name, value in values.items()
    )
    path = folder / "weightproof.toml"
    path.write_text(
        f'[chain]\nrpc_url = "{rpc_url}"\n{chain}\n[contracts]\n{contracts}\n{addresses}'
    )
    return load(path)


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        ('heads_url = "http://127.0.0.1:8545/hush"', r"chain\.heads_url"),
        ('heads_url = "ws:///hush"', r"chain\.heads_url"),
        ("heads_url = 1", r"chain\.heads_url"),
        ('witnesses = "http://127.0.0.1:1/hush"', r"chain\.witnesses"),
        ('witnesses = ["ws://127.0.0.1:1/hush"]', r"chain\.witnesses"),
        ('witnesses = ["http://127.0.0.1:hush"]', r"chain\.witnesses"),
        ("witnesses = [1]", r"chain\.witnesses"),
        (f'witnesses = ["{RPC}"]', r"chain\.witnesses names an endpoint twice"),
        ('witnesses = ["http://a/hush", "http://a/hush"]', "names an endpoint twice"),
    ],
)
def test_a_wrong_address_is_refused_and_not_shown(
    tmp_path: Path, deployment: Deployment, line: str, setting: str
) -> None:
    with pytest.raises(ConfigError, match=setting) as caught:
        written(tmp_path, deployment, line)
    assert "hush" not in str(caught.value)


def test_an_rpc_address_of_another_kind_is_refused_and_not_shown() -> None:
    for address in ("ws://127.0.0.1/hush", "http://[hush", "http://h:hush"):
        with pytest.raises(ConfigError) as caught:
            Chain(address)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "0x12", "00" * 32, "0x" + "zz" * 32, "0x" + "0" * 65])
def test_a_fingerprint_is_32_bytes_in_hexadecimal(
    tmp_path: Path, deployment: Deployment, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"contracts\.attestations_code"):
        written(tmp_path, deployment, contracts=f'attestations_code = "{text}"')


def test_nothing_named_means_one_endpoint_polled_and_our_code(
    tmp_path: Path, deployment: Deployment
) -> None:
    config = written(tmp_path, deployment)
    assert (config.chain.heads_url, config.chain.witnesses, config.code) == ("", (), {})


def test_what_is_named_is_used(tmp_path: Path, deployment: Deployment, devnet: Devnet) -> None:
    localhost = devnet.rpc_url.replace("127.0.0.1", "localhost")
    lines = f'witnesses = ["{localhost}"]\nheads_url = "wss://host/hush"\nfinality = "latest"'
    workspace = Workspace.open(written(tmp_path, deployment, lines, rpc_url=devnet.rpc_url))
    assert isinstance(workspace.records.chain, WitnessedChain)
    assert isinstance(workspace.attestations.chain, WitnessedChain)
    assert workspace.trusted_block() == devnet.chain.head()
    heads = workspace.heads()
    assert heads is not None
    assert heads.host == "host"


def test_a_workspace_refuses_contracts_with_other_code_than_named(
    tmp_path: Path, deployment: Deployment, devnet: Devnet
) -> None:
    for name in ("model_registry_code", "attestations_code"):
        config = written(
            tmp_path, deployment, contracts=f'{name} = "0x{"01" * 32}"', rpc_url=devnet.rpc_url
        )
        with pytest.raises(ChainMismatchError, match="fingerprint"):
            Workspace.open(config)


def test_a_devnet_names_where_its_heads_are_pushed_and_renames_it_with_its_port(
    tmp_path: Path,
) -> None:
    with Devnet.start(state=tmp_path / "state.json") as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), tmp_path / "net", net.rpc_url)
        assert load(path).chain.heads_url == f"ws://127.0.0.1:{net.port}"
    with Devnet.start(state=tmp_path / "state.json") as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), tmp_path / "net", net.rpc_url)
        chain = load(path).chain
        assert chain.heads_url == f"ws://127.0.0.1:{net.port}"
        assert chain.rpc_url == net.rpc_url
