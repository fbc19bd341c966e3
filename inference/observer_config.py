"""Settings of what watches the node: metrics, the call log, traces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from registry.errors import ConfigError
from registry.section import Section


@dataclass(frozen=True)
class ObserverConfig:
    """Who may see how the node does; prompts, answers and payers are in none of it.

    `metrics` answers /metrics, to this machine only unless `metrics_public`; `trace_endpoint` is
    an OTLP/HTTP address and `call_log` a file, "-" for stderr; both empty are off.
    """

    metrics: bool = True
    metrics_public: bool = False
    trace_endpoint: str = ""
    call_log: str = ""


def read_observer(section: Section, folder: Path) -> ObserverConfig:
    """Read the settings of section `node`; files lie in `folder`. Raises `ConfigError`."""
    log = section.text("call_log", "")
    return ObserverConfig(
        metrics=section.flag("metrics", True),
        metrics_public=section.flag("metrics_public", False),
        trace_endpoint=_endpoint(section.text("trace_endpoint", "")),
        call_log=log if log in ("", "-") else str(folder / log),
    )


def _endpoint(text: str) -> str:
    """Return where traces go; a bare address gets OTLP's own path. Passwords are refused."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named or not text.isprintable() or " " in text:
        raise ConfigError("node.trace_endpoint must be an http:// or https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("node.trace_endpoint must be an address without user, query or fragment")
    return text if parts.path.strip("/") else f"{text.rstrip('/')}/v1/traces"
