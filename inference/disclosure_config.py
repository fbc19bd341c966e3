"""Settings of what is kept of calls for auditors."""

from __future__ import annotations

from dataclasses import dataclass

from registry.section import Section


@dataclass(frozen=True)
class DisclosureConfig:
    """How long requests and answers' tokens are kept for auditors whom their payers allow.

    In seconds and bytes of all; `keep_s` 0, which is usual, keeps none, so that a node holds no
    prompts. `per_minute` bounds how often one auditor may ask.
    """

    keep_s: int = 0
    total_bytes: int = 1024**3
    per_minute: int = 60


def read_disclosure(section: Section) -> DisclosureConfig:
    """Read the section `node.disclosure`. Raises `ConfigError`."""
    usual = DisclosureConfig()
    found = DisclosureConfig(
        keep_s=section.integer("keep_s", usual.keep_s, high=365 * 24 * 3600),
        total_bytes=section.integer("total_bytes", usual.total_bytes, low=1, high=2**50),
        per_minute=section.integer("per_minute", usual.per_minute, low=1, high=60_000),
    )
    section.finish()
    return found
