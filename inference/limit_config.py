"""The settings section `limits`: how often and how much strangers may ask. 0 is no limit.

Behind a proxy all requests come from its address: the limit per address belongs there then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.limits import Rate
from inference.payments.channel_limits import ChannelLimits
from registry.section import Section

_MAX_RATE = 60_000_000
_MAX_BURST = 1_000_000


@dataclass(frozen=True)
class LimitConfig:
    """Rates by paying wallet and by address, and how many channels may be open."""

    payer: Rate = field(default_factory=Rate)
    address: Rate = field(default_factory=Rate)
    channels: ChannelLimits = field(default_factory=ChannelLimits)


def read_limits(section: Section) -> LimitConfig:
    """Return the limits of the section. Raises `ConfigError` that names the setting."""
    limits = LimitConfig(
        payer=_rate(section, "payer"),
        address=_rate(section, "address"),
        channels=ChannelLimits(
            per_payer=section.integer("channels_per_payer", 0),
            in_all=section.integer("channels", 0),
        ),
    )
    section.finish()
    return limits


def _rate(section: Section, who: str) -> Rate:
    per_minute = section.integer(f"{who}_per_minute", 0, high=_MAX_RATE)
    # Without a word about it, a second's worth at once.
    burst = section.integer(f"{who}_burst", max(1, per_minute // 60), low=1, high=_MAX_BURST)
    return Rate(per_minute, burst)
