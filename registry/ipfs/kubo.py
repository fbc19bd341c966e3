"""Kubo's RPC as a block store, through ipfshttpclient.

Only the block endpoints are used, in the form that Kubo and js-ipfs both take. The client's own
HTTP is replaced by `BoundedHttp`: it has no deadline, and keeps whatever a peer sends.
Source: https://docs.ipfs.tech/reference/kubo/rpc/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlencode

import ipfshttpclient  # type: ignore[import-untyped]  # it has no type information
from ipfshttpclient.exceptions import Error as ClientError  # type: ignore[import-untyped]
from ipfshttpclient.http_common import (  # type: ignore[import-untyped]
    ClientSyncBase,
    multiaddr_to_url_data,
)

from registry.errors import BlockMissingError, BlockStoreError, ConfigError
from registry.ipfs.blockstore import MAX_BLOCK_BYTES, check_size, verified
from registry.ipfs.bounded_http import BoundedHttp, ExchangeTimeoutError
from registry.ipfs.cid import Cid, Codec

Result = TypeVar("Result")
# A reply is a block or a short JSON object.
_MAX_REPLY_BYTES = MAX_BLOCK_BYTES + 1


class RpcRefusedError(BlockStoreError):
    """The node answered with an error of its own, which is the message."""


class KuboBlockStore:
    """The blocks of one IPFS node, and of the network behind it.

    `address` is the multiaddr of its RPC, such as `/ip4/127.0.0.1/tcp/5001`; `timeout_s` bounds
    each call. A node that lacks a block searches its peers until it is told to stop, so a search
    that takes longer counts as missing. Safe between threads.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        try:
            self._client = ipfshttpclient.Client(address)
            self._transport = _Transport(address, "api/v0", timeout=timeout_s)
        except ClientError as error:
            raise ConfigError(
                f"{address!r:.200} is not the multiaddr of an IPFS node",
                hint="Write it like /ip4/127.0.0.1/tcp/5001.",
            ) from error
        self._client._client = self._transport
        self._address = address
        # Told to the node as well, so that it stops searching when we stop waiting.
        self._options = {"timeout": f"{timeout_s}s"}

    def get(self, cid: Cid) -> bytes:
        """Return the block, re-hashed. Raises `BlockMissingError`, `BlockCorruptError`."""
        data = self._find(cid, lambda: self._client.block.get(str(cid), opts=self._options))
        return verified(cid, data, source=self._address)

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Store a block. Raises `BlockStoreError` when the node names it otherwise than we do."""
        cid = Cid.of_block(codec, check_size(data))
        # The older spelling of `cid-codec`, because js-ipfs knows no other.
        options = {**self._options, "format": codec, "mhtype": "sha2-256", "version": "1"}
        stored = self._call(lambda: self._client.block.put(BytesIO(data), opts=options)["Key"])
        if stored != str(cid):
            raise BlockStoreError(f"{self._address} stored {cid} as {stored!r:.80}", cid=str(cid))
        return cid

    def has(self, cid: Cid) -> bool:
        """Return whether the node has the block or finds it in time."""
        try:
            self._find(cid, lambda: self._client.block.stat(str(cid), opts=self._options))
        except BlockMissingError:
            return False
        return True

    def pin(self, cid: Cid) -> None:
        """Keep a tree from the node's garbage collector. Raises `BlockMissingError`."""
        self._find(cid, lambda: self._client.pin.add(str(cid), opts=self._options))

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    def _find(self, cid: Cid, call: Callable[[], Result]) -> Result:
        try:
            return self._call(call)
        except (ExchangeTimeoutError, RpcRefusedError) as error:
            raise BlockMissingError(
                f"{self._address} does not have {cid}: {error.message}", cid=str(cid)
            ) from error

    def _call(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except (ClientError, AssertionError, LookupError, TypeError, ValueError) as error:
            # The client asserts and indexes its way through a reply of another shape.
            raise BlockStoreError(
                f"{self._address} gave no answer of an IPFS node: {error!r:.200}"
            ) from error


class _Transport(ClientSyncBase):  # type: ignore[misc]  # its base has no type information
    """ipfshttpclient's HTTP, bounded. Its methods are the ones that the base class asks for."""

    def _init(self, addr: str, base: str, **settings: Any) -> None:
        self._base_url = multiaddr_to_url_data(addr, base)[0]
        self._params: Sequence[tuple[str, str]] = settings["params"]
        self.http = BoundedHttp(settings["timeout"])

    def _make_session(self) -> BoundedHttp:
        return self.http

    def _request(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        *,
        data: Iterable[bytes] | None,
        headers: Mapping[str, str] | None,
        **_settings: object,
    ) -> tuple[list[object], Iterator[bytes]]:
        url = f"{self._base_url}{path.lstrip('/')}?{urlencode([*self._params, *params])}"
        # js-ipfs refuses a declared length over 1 MiB, which a chunk and its wrapping have.
        wanted = {**(headers or {}), "Transfer-Encoding": "chunked"}
        content = b"".join(data or ())
        reply = self.http.exchange(
            method, url, max_bytes=_MAX_REPLY_BYTES, headers=wanted, content=content
        )
        if reply.status != 200:
            raise RpcRefusedError(f"{reply.status} {_message(reply.body)}")
        return [], (part for part in (reply.body,))


def _message(body: bytes) -> str:
    try:
        message = str(json.loads(body)["Message"])
    except (ValueError, LookupError, TypeError):
        message = body[:100].decode("ascii", "replace")
    # For a terminal: a stranger's text must not move the cursor.
    return message[:300].encode("unicode_escape").decode()
