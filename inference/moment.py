"""Moments and spans of time in words, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def moment(unix_s: int) -> str:
    """Return a moment as "2026-12-12 04:00 UTC"; one beyond calendars by its number."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"unix second {unix_s}"


def span(seconds: int) -> str:
    """Return a span by its two largest units, as "13 days 4 hours"."""
    words: list[str] = []
    rest = max(0, seconds)
    for name, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {name}{'s' if count != 1 else ''}")
    return " ".join(words[:2]) or "0 seconds"
