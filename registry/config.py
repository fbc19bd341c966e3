"""Settings of the registry, read once: a `weightproof.toml`, then environment variables.

==========================  ====================================================================
WEIGHTPROOF_CONFIG          path of the file (default: weightproof.toml here or in a parent folder)
WEIGHTPROOF_RPC_URL         overrides chain.rpc_url
WEIGHTPROOF_PASSWORD        password of the keystore files (else keys.password_file)
==========================  ====================================================================

Unknown keys are refused by name: a misspelt setting must not be a silent default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from registry.chain.deploy import Deployment
from registry.chain.endpoint import host_of
from registry.chain.fees import GWEI, FeePolicy
from registry.errors import ConfigError, KeyRefusedError
from registry.policy import GIB, Policy
from registry.section import FILE_NAME as FILE_NAME
from registry.section import Section as Section
from registry.signing.signer import ANVIL_CHAIN_ID, Signer, refuse_well_known

# What `inference.config` reads of the same file.
_NODE_SECTIONS: Final = ("node", "models", "prices", "limits")
# Beyond the finality of chains in use: Ethereum takes a quarter of an hour.
_BLOCK_AGE_S: Final = 3600
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_DIGEST: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
# Settings of the section `contracts` that pin a contract's code.
PINNED: Final = ("model_registry_code", "attestations_code")
_ANVIL: Final = re.compile(r"anvil:[0-9]{1,4}", re.ASCII)


@dataclass(frozen=True)
class ChainConfig:
    """Which chain, and which of its blocks count as settled.

    `finality` is "latest" (devnets), "finalized", or a number of confirmations. `heads_url` is
    where new heads are pushed, empty where they are only polled; `witnesses` are further RPC
    addresses that must agree with `rpc_url`. `fees` is what may be paid for gas.
    """

    rpc_url: str
    chain_id: int
    finality: str | int
    timeout_s: int
    heads_url: str = ""
    witnesses: tuple[str, ...] = ()
    fees: FeePolicy = field(default_factory=FeePolicy)


@dataclass(frozen=True)
class StoreConfig:
    """Where blocks lie: a folder always, a Kubo node and gateways if named."""

    folder: Path
    kubo: str
    gateways: tuple[str, ...]
    timeout_s: int


@dataclass(frozen=True)
class KeyConfig:
    """Key references by role: `anvil:N` on a devnet, else the path of a keystore file."""

    references: Mapping[str, str]
    folder: Path
    password: str = field(repr=False, default="")

    def signer(self, role: str, *, chain_id: int) -> Signer:
        """Open the key of a role. Raises `ConfigError` or `KeyRefusedError`."""
        reference = self.references.get(role)
        if reference is None:
            raise ConfigError(
                f"no key of role {role!r:.40}",
                hint=f"name a keystore file under [keys] in {FILE_NAME}; weightproof key makes one",
            )
        return self.open(reference, chain_id=chain_id)

    def open(self, reference: str, *, chain_id: int) -> Signer:
        """Open one reference."""
        if _ANVIL.fullmatch(reference):
            return Signer.anvil(int(reference[6:]), chain_id=chain_id)
        try:
            signer = Signer.from_keystore(self.folder / reference, self.password)
        except KeyRefusedError as error:
            hint = error.hint if self.password else "set WEIGHTPROOF_PASSWORD or keys.password_file"
            raise KeyRefusedError(error.message, hint=hint) from error
        refuse_well_known(signer.address, chain_id)
        return signer


@dataclass(frozen=True)
class RegistryConfig:
    """Everything the registry's commands need."""

    path: Path
    chain: ChainConfig
    contracts: Deployment
    # Fingerprints of contracts whose code is trusted though it is not this version's, by name.
    code: Mapping[str, bytes]
    store: StoreConfig
    keys: KeyConfig
    policy: Policy


def load(explicit: Path | None = None) -> RegistryConfig:
    """Read the settings file and the environment. Raises `ConfigError`."""
    path = find_file(explicit)
    root = read_file(path)
    config = registry_config(path, root)
    root.finish(but=_NODE_SECTIONS)
    return config


def environment_password() -> str:
    """Return the password of keystore files that the environment gives, or nothing."""
    return os.environ.get("WEIGHTPROOF_PASSWORD", "")


def checked_address(text: str, what: str) -> str:
    """Return an address in checksum form. Raises `ConfigError` that names the setting."""
    # Written in lower case it is the same address; comparing texts must not make it another one.
    if is_checksum_address(text) or (is_hex_address(text) and text == text.lower()):
        return str(to_checksum_address(text))
    raise ConfigError(
        f"{what}: {text!r:.60} is not an address",
        hint="an address is 0x and 40 hexadecimal digits; capitals are its checksum",
    )


def find_file(explicit: Path | None = None) -> Path:
    """Return the settings file: given, named by WEIGHTPROOF_CONFIG, or the nearest one upwards."""
    named = explicit or (Path(p) if (p := os.environ.get("WEIGHTPROOF_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"no settings file {named}", hint="look at --config and WEIGHTPROOF_CONFIG"
            )
        return named.resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ConfigError(
        f"no {FILE_NAME} here or above",
        hint="start a devnet, which writes one: weightproof devnet",
    )


def read_file(path: Path) -> Section:
    """Parse the settings file. Raises `ConfigError` with the line of a syntax error."""
    try:
        return Section("", tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def registry_config(path: Path, root: Section) -> RegistryConfig:
    """Read the sections chain, contracts, store, keys and policy."""
    return RegistryConfig(
        path=path,
        chain=(chain := _chain(root.section("chain"))),
        contracts=_contracts(contracts := root.section("contracts"), chain.chain_id),
        code={name: _fingerprint(contracts, name) for name in PINNED if name in contracts},
        store=_store(root.section("store"), path.parent),
        keys=_keys(root.section("keys"), path.parent),
        policy=_policy(root.section("policy"), devnet=chain.chain_id == ANVIL_CHAIN_ID),
    )


def _chain(section: Section) -> ChainConfig:
    config = ChainConfig(
        rpc_url=os.environ.get("WEIGHTPROOF_RPC_URL") or section.text("rpc_url"),
        chain_id=section.integer("chain_id", 31337, low=1),
        finality=_finality(section.text_or_integer("finality", "finalized")),
        timeout_s=section.integer("timeout_s", 10, low=1, high=600),
        heads_url=section.text("heads_url", ""),
        witnesses=section.texts("witnesses"),
        fees=FeePolicy(
            cap=section.integer("max_fee_gwei", 500, low=1, high=10**6) * GWEI,
            replace_after_s=section.integer("replace_after_s", 30, low=1, high=3600),
        ),
    )
    section.text("rpc_url", "")
    section.finish()
    _check_addresses(config)
    return config


def _check_addresses(config: ChainConfig) -> None:
    """Refuse addresses of another kind; none is shown, for they may hold keys."""
    for setting, addresses, schemes in (
        ("chain.heads_url", [config.heads_url] if config.heads_url else [], ("ws", "wss")),
        ("chain.witnesses", config.witnesses, ("http", "https")),
    ):
        for address in addresses:
            try:
                host_of(address, schemes)
            except ConfigError as error:
                raise ConfigError(f"{setting}: {error.message}") from error
    asked = (config.rpc_url, *config.witnesses)
    if len(set(asked)) != len(asked):
        raise ConfigError(
            "chain.witnesses names an endpoint twice",
            hint="an endpoint cannot be its own witness; name others, of other operators",
        )


def _finality(value: str | int) -> str | int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_count and value not in ("latest", "finalized"):
        raise ConfigError('chain.finality is "latest", "finalized" or a number of confirmations')
    return value


def _contracts(section: Section, chain_id: int) -> Deployment:
    from_block = section.integer("from_block", 0)
    others = ("from_block", *PINNED)
    addresses = {name: section.text(name) for name in section if name not in others}
    return Deployment.from_json({"chain_id": chain_id, "from_block": from_block, **addresses})


def _fingerprint(section: Section, name: str) -> bytes:
    text = section.text(name)
    if not _DIGEST.fullmatch(text):
        raise ConfigError(f"contracts.{name} must be 0x and 64 hexadecimal digits")
    return bytes.fromhex(text[2:])


def _store(section: Section, folder: Path) -> StoreConfig:
    config = StoreConfig(
        folder=folder / section.text("folder", ".weightproof/blocks"),
        kubo=section.text("kubo", ""),
        gateways=section.texts("gateways"),
        timeout_s=section.integer("timeout_s", 30, low=1, high=3600),
    )
    section.finish()
    return config


def _keys(section: Section, folder: Path) -> KeyConfig:
    password = environment_password()
    if (file := section.text("password_file", "")) and not password:
        try:
            password = (folder / file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise ConfigError(
                f"keys.password_file {file}: {why}", hint="or set WEIGHTPROOF_PASSWORD"
            ) from error
    roles = {name: section.text(name) for name in section if name != "password_file"}
    return KeyConfig(references=roles, folder=folder, password=password)


def _policy(section: Section, *, devnet: bool) -> Policy:
    publishers = section.texts("publishers")
    policy = Policy(
        # An empty list trusts nobody; only a list that is not there trusts everybody.
        publishers=frozenset(publishers) if "publishers" in section else None,
        attesters=frozenset(section.texts("attesters")),
        min_attestations=section.integer("min_attestations", 1, high=100),
        max_bytes=section.integer("max_gib", 64, low=1) * GIB,
        # A devnet makes blocks only when asked; elsewhere an endpoint that stopped would hide
        # revocations for ever.
        max_block_age_s=section.integer("max_block_age_s", 0 if devnet else _BLOCK_AGE_S) or None,
    )
    section.finish()
    return policy
