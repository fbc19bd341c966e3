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
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from registry.chain.deploy import Deployment
from registry.errors import ConfigError
from registry.policy import GIB, Policy
from registry.signing.signer import Signer, refuse_well_known

FILE_NAME: Final = "weightproof.toml"


class Section:
    """One table of the file; every key must be asked for, or `finish` refuses the rest."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self._name = name
        self._table = dict(table)
        self._asked: set[str] = set()

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; without a default it is required."""
        return str(self._value(key, str, default))

    def integer(self, key: str, default: int, *, low: int = 0, high: int = 2**63) -> int:
        """Return an integer within [low, high]."""
        value = self._value(key, int, default)
        if isinstance(value, bool) or not low <= value <= high:
            raise ConfigError(f"{self._name}.{key} must be an integer from {low} to {high}")
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty when absent."""
        value = self._value(key, list, [])
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{self._name}.{key} must be a list of strings")
        return tuple(value)

    def section(self, key: str) -> Section:
        """Return the table below `key`, empty when absent."""
        return Section(f"{self._name}.{key}".strip("."), self._value(key, dict, {}))

    def sections(self, key: str) -> tuple[Section, ...]:
        """Return the array of tables below `key`."""
        return tuple(Section(f"{key}[{i}]", t) for i, t in enumerate(self._value(key, list, [])))

    def finish(self) -> None:
        """Raise `ConfigError` for keys nobody asked for."""
        if unknown := sorted(set(self._table) - self._asked):
            raise ConfigError(f"unknown setting {self._name}.{unknown[0]}".replace(" .", " "))

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def _value(self, key: str, kind: type, default: Any) -> Any:
        self._asked.add(key)
        value = self._table.get(key, default)
        if value is None:
            raise ConfigError(f"setting {self._name}.{key} is missing")
        if not isinstance(value, kind):
            raise ConfigError(f"{self._name}.{key} must be a {kind.__name__}")
        return value


@dataclass(frozen=True)
class ChainConfig:
    """Which chain, and which of its blocks count as settled.

    `finality` is "latest" (devnets), "finalized", or a number of confirmations.
    """

    rpc_url: str
    chain_id: int
    finality: str | int
    timeout_s: int


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
                f"no key for the {role}", hint=f"name a keystore file as keys.{role} in {FILE_NAME}"
            )
        return self.open(reference, chain_id=chain_id)

    def open(self, reference: str, *, chain_id: int) -> Signer:
        """Open one reference."""
        if reference.startswith("anvil:") and reference[6:].isdigit():
            return Signer.anvil(int(reference[6:]), chain_id=chain_id)
        signer = Signer.from_keystore(self.folder / reference, self.password)
        refuse_well_known(signer.address, chain_id)
        return signer


@dataclass(frozen=True)
class RegistryConfig:
    """Everything the registry's commands need."""

    path: Path
    chain: ChainConfig
    contracts: Deployment
    store: StoreConfig
    keys: KeyConfig
    policy: Policy


def find_file(explicit: Path | None = None) -> Path:
    """Return the settings file: given, named by WEIGHTPROOF_CONFIG, or the nearest one upwards."""
    named = explicit or (Path(p) if (p := os.environ.get("WEIGHTPROOF_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"no settings file {named}")
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
        contracts=_contracts(root.section("contracts"), chain.chain_id),
        store=_store(root.section("store"), path.parent),
        keys=_keys(root.section("keys"), path.parent),
        policy=_policy(root.section("policy")),
    )


def _chain(section: Section) -> ChainConfig:
    finality: str | int = section.text("finality", "finalized")
    if isinstance(finality, str) and finality.isdigit():
        finality = int(finality)
    elif finality not in ("latest", "finalized"):
        raise ConfigError('chain.finality is "latest", "finalized" or a number of confirmations')
    config = ChainConfig(
        rpc_url=os.environ.get("WEIGHTPROOF_RPC_URL") or section.text("rpc_url"),
        chain_id=section.integer("chain_id", 31337, low=1),
        finality=finality,
        timeout_s=section.integer("timeout_s", 10, low=1, high=600),
    )
    section.text("rpc_url", "")
    section.finish()
    return config


def _contracts(section: Section, chain_id: int) -> Deployment:
    from_block = section.integer("from_block", 0)
    addresses = {name: section.text(name) for name in section if name != "from_block"}
    return Deployment.from_json({"chain_id": chain_id, "from_block": from_block, **addresses})


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
    password = os.environ.get("WEIGHTPROOF_PASSWORD", "")
    if file := section.text("password_file", ""):
        try:
            password = password or (folder / file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"keys.password_file: {error.strerror}") from error
    roles = {name: section.text(name) for name in section if name != "password_file"}
    return KeyConfig(references=roles, folder=folder, password=password)


def _policy(section: Section) -> Policy:
    publishers = section.texts("publishers")
    policy = Policy(
        publishers=frozenset(publishers) if publishers else None,
        attesters=frozenset(section.texts("attesters")),
        min_attestations=section.integer("min_attestations", 1, high=100),
        max_bytes=section.integer("max_gib", 64, low=1) * GIB,
        max_block_age_s=section.integer("max_block_age_s", 0) or None,
    )
    section.finish()
    return policy
