"""How often somebody may call: token buckets in whole nanoseconds, with bounded memory.

A bucket is one integer: when it will be full again. Whoever is not in memory has a full one, so
those that are full are forgotten first, and what strangers can make the node remember is bounded.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from inference.errors import NodeError

_MINUTE_NS: Final = 60 * 10**9
_SECOND_NS: Final = 10**9
# A key and its time take some 200 bytes: some 13 MB at most for each kind of bucket.
MAX_KEYS: Final = 65_536


class RateLimitedError(NodeError):
    """Somebody calls too often; nothing was charged. `retry_after_s` is when to try again."""

    status = 429
    code = "rate_limited"

    def __init__(self, who: str, retry_after_s: int) -> None:
        super().__init__(f"too many calls by this {who}; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Rate:
    """`per_minute` calls on the long run, 0 for any number; `burst` of them at once."""

    per_minute: int = 0
    burst: int = 1


class Buckets:
    """The buckets of all payers, or of all addresses. `clock` is in nanoseconds, and monotonic.

    Used from the event loop alone.
    """

    def __init__(
        self,
        rate: Rate,
        who: str,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._who: Final = who
        self._every: Final = _MINUTE_NS // rate.per_minute if rate.per_minute else 0
        self._depth: Final = self._every * rate.burst
        self._max_keys: Final = max_keys
        self._clock: Final = clock
        self._full_at: Final[OrderedDict[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> None:
        """Count a call. Raises `RateLimitedError` for one too many, which is not counted."""
        if not self._every:
            return
        now = self._clock()
        after = max(self._full_at.get(key, now), now) + self._every
        if (wait := after - now - self._depth) > 0:
            raise RateLimitedError(self._who, -(-wait // _SECOND_NS))
        self._full_at[key] = after
        self._full_at.move_to_end(key)
        self._forget(now)

    def _forget(self, now: int) -> None:
        """Forget buckets that are full, oldest first, and any beyond what memory is given."""
        while self._full_at:
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= self._max_keys:
                return
            del self._full_at[oldest]


def address_key(host: str) -> str:
    """Return whose bucket an address takes from: an IPv6 network of 64 bits is one customer's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
    return host
