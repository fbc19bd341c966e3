"""The settings file a devnet writes: contracts, keys by role, and a policy that trusts them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from registry.chain.connection import Chain
from registry.chain.deploy import Deployment, check, deploy
from registry.chain.dev_usd import ONE, mint
from registry.config import FILE_NAME, read_file, registry_config
from registry.errors import ConfigError
from registry.signing.signer import Signer

# Which of Anvil's accounts plays whom.
ROLES: Final = {"deployer": 0, "publisher": 1, "attester": 2, "node": 3, "payer": 4, "owner": 5}
# What the payer, and the owner of the node's bond, begin with: a thousand dollars of play money.
_FUNDS: Final = 1000 * ONE


def prepare_devnet(chain: Chain, folder: Path, rpc_url: str) -> tuple[Path, Deployment]:
    """Deploy on a fresh chain, or find what an earlier run left; return file and deployment.

    A file that is there keeps what its owner added: only the endpoint's addresses are changed.
    """
    path = folder / FILE_NAME
    if path.exists() and (deployment := _deployed(chain, path)) is not None:
        text = path.read_text()
        for name, url in (("rpc_url", rpc_url), ("heads_url", _heads_url(rpc_url))):
            text = re.sub(rf'(?m)^{name} = ".*"$', f'{name} = "{url}"', text, count=1)
        path.write_text(text)
        return path, deployment
    if path.exists():
        raise ConfigError(
            f"{path} is there, and belongs to another chain",
            hint="remove it, or use another folder",
        )
    deployment = deploy(chain, _signer("deployer", chain))
    if deployment.dev_usd:
        for role in ("payer", "owner"):
            holder = _signer(role, chain).address
            mint(chain, _signer("deployer", chain), deployment.dev_usd, holder, _FUNDS)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(chain, rpc_url, deployment))
    return path, deployment


def add_model(path: Path, name: str, model_id: bytes, price: Mapping[str, int]) -> None:
    """Append a model to what the node of a settings file sells; prices in atomic units."""
    prices = "\n".join(f"{part} = {amount}" for part, amount in price.items())
    # A JSON string is a TOML string, so that no name can write settings of its own.
    quoted = json.dumps(name, ensure_ascii=False)
    section = (
        f'\n[[models]]\nname = {quoted}\nid = "0x{model_id.hex()}"\n[models.price]\n{prices}\n'
    )
    path.write_text(path.read_text() + section)


def _deployed(chain: Chain, path: Path) -> Deployment | None:
    contracts = registry_config(path, read_file(path)).contracts
    if not chain.code(contracts.model_registry):
        return None
    check(chain, contracts)
    return contracts


def _heads_url(rpc_url: str) -> str:
    # Anvil serves WebSockets at the port of its HTTP.
    return re.sub("^http", "ws", rpc_url)


def _signer(role: str, chain: Chain) -> Signer:
    return Signer.anvil(ROLES[role], chain_id=chain.chain_id)


def _text(chain: Chain, rpc_url: str, deployment: Deployment) -> str:
    contracts = "\n".join(
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
        for name, value in deployment.to_json().items()
        if name != "chain_id"
    )
    keys = "\n".join(f'{role} = "anvil:{index}"' for role, index in ROLES.items())
    return f"""\
# Written by `weightproof devnet`. These keys are public: they work on chain 31337 only.

[chain]
rpc_url = "{rpc_url}"
heads_url = "{_heads_url(rpc_url)}"
chain_id = {chain.chain_id}
finality = "latest"

[contracts]
{contracts}

[store]
folder = ".weightproof/blocks"

[keys]
{keys}

[policy]
publishers = ["{_signer("publisher", chain).address}"]
attesters = ["{_signer("attester", chain).address}"]
min_attestations = 1

[node]
origin = "weightproof.local/devnet"
database = ".weightproof/node.sqlite"
port = 8402
settle_every_s = 0           # by hand: weightproof settle
threads = 1                  # processors a model may use; on busy ones, more is slower

# What the node sells; ids are printed by `weightproof register`.
# [[models]]
# name = "my-model"
# id = "0x…"
# [models.price]             # atomic units: a millionth of a dollar
# per_call = 100
# input_per_million = 150000
# output_per_million = 600000
"""
