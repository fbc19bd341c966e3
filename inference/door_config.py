"""Settings of the door: what one connection may take."""

from __future__ import annotations

from dataclasses import dataclass

from registry.section import Section


@dataclass(frozen=True)
class DoorConfig:
    """What one connection may take before it is shown out; see `door`. Seconds and bytes.

    Behind a reverse proxy all payers have its address: raise `max_connections_per_address` there.
    """

    max_connections: int = 4096
    max_connections_per_address: int = 512
    max_header_bytes: int = 32 * 1024
    header_timeout_s: int = 10
    body_timeout_s: int = 30


def read_door(section: Section) -> DoorConfig:
    """Read the settings of section `node`. Raises `ConfigError`."""
    default = DoorConfig()
    return DoorConfig(
        max_connections=section.integer("max_connections", default.max_connections, low=1),
        max_connections_per_address=section.integer(
            "max_connections_per_address", default.max_connections_per_address, low=1
        ),
        # A payment with its deposit takes about 4 KiB.
        max_header_bytes=section.integer("max_header_bytes", default.max_header_bytes, low=8192),
        header_timeout_s=section.integer(
            "header_timeout_s", default.header_timeout_s, low=1, high=600
        ),
        body_timeout_s=section.integer("body_timeout_s", default.body_timeout_s, low=1, high=600),
    )
