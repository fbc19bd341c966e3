"""Trustless gateways: single blocks over HTTP from servers that nobody has to trust.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/
"""

from __future__ import annotations

from urllib.parse import urlsplit

from registry.errors import BlockCorruptError, BlockMissingError, BlockStoreError, ConfigError
from registry.ipfs.blockstore import MAX_BLOCK_BYTES, verified
from registry.ipfs.bounded_http import BoundedHttp, ExchangeTooLargeError
from registry.ipfs.cid import Cid, Codec

# Not there, gone, or looked for by the gateway in vain.
_MISSING = (404, 410, 504)


class GatewayBlockStore:
    """Reads blocks from one gateway; it cannot be written to.

    `url` is the gateway's origin, such as `https://trustless-gateway.link`; `timeout_s` bounds
    each block from connecting to its last byte.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(f"{url!r:.200} is not the http(s) address of a gateway")
        self._url = url.rstrip("/")
        self._http = BoundedHttp(timeout_s)

    def get(self, cid: Cid) -> bytes:
        """Return the block, re-hashed.

        Raises `BlockMissingError`; `BlockCorruptError` for any other bytes (an HTML page, a
        compressed body, more than 2 MiB); `BlockStoreError` when the gateway cannot be reached,
        is too slow, or refuses.
        """
        try:
            reply = self._http.exchange(
                "GET",
                f"{self._url}/ipfs/{cid}?format=raw",
                headers={"Accept": "application/vnd.ipld.raw"},
                max_bytes=MAX_BLOCK_BYTES,
            )
        except ExchangeTooLargeError as error:
            raise BlockCorruptError(error.message, cid=str(cid)) from error
        if reply.status in _MISSING:
            raise BlockMissingError(f"{self._url} does not have {cid}", cid=str(cid))
        if reply.status != 200:
            raise BlockStoreError(
                f"{self._url} answered {reply.status} for {cid}",
                cid=str(cid),
                hint="Name a gateway that serves /ipfs/<cid>?format=raw without redirecting.",
            )
        kind = reply.headers.get("content-type", "no content type")[:80]
        return verified(cid, reply.body, source=f"{self._url} ({kind!a})")

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Raise `BlockStoreError`: gateways are for reading."""
        raise BlockStoreError(f"{self._url} is a gateway and cannot store blocks")

    def has(self, cid: Cid) -> bool:
        """Return whether the gateway delivers the block, by fetching it."""
        try:
            self.get(cid)
        except BlockMissingError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
