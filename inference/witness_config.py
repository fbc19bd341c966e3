"""Settings of the witnesses that cosign a node's heads: `[[node.witnesses]]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.audit.note import COSIGNATURE, NoteError, VerifierKey
from registry.errors import ConfigError
from registry.section import Section

# A note has room for sixteen lines, two of which are the node's.
_MAX_WITNESSES: Final = 14


@dataclass(frozen=True)
class WitnessConfig:
    """A witness: where it listens, and the key that its cosignatures are checked with."""

    url: str
    key: VerifierKey


@dataclass(frozen=True)
class CosigningConfig:
    """Who is shown the node's heads, and how many seconds lie between two rounds."""

    witnesses: tuple[WitnessConfig, ...] = ()
    every_s: int = 60


def read_cosigning(section: Section) -> CosigningConfig:
    """Read the settings of section `node`. Raises `ConfigError`."""
    witnesses = tuple(map(_witness, section.sections("witnesses")))
    if len(witnesses) > _MAX_WITNESSES:
        raise ConfigError(f"node.witnesses names {len(witnesses)}, more than {_MAX_WITNESSES}")
    if len({witness.key.name for witness in witnesses}) != len(witnesses):
        raise ConfigError("node.witnesses names a witness twice")
    return CosigningConfig(witnesses, section.integer("cosign_every_s", 60, low=1, high=86400))


def witness_key(text: str, what: str) -> VerifierKey:
    """Read a witness's key. Raises `ConfigError` that names the setting."""
    try:
        key = VerifierKey.parse(text)
    except NoteError as error:
        raise ConfigError(f"{what}: {error.message}") from error
    if key.kind != COSIGNATURE:
        raise ConfigError(f"{what}: {text!r:.80} is a log's key, not a witness's")
    return key


def _witness(section: Section) -> WitnessConfig:
    url = section.text("url")
    if not url.startswith(("http://", "https://")):
        raise ConfigError("node.witnesses.url must begin with http:// or https://")
    witness = WitnessConfig(url.rstrip("/"), witness_key(section.text("key"), "node.witnesses.key"))
    section.finish()
    return witness
