"""The gate: how often one address may ask, counted before anything is read of the request."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from inference.api.problems import problem
from inference.limits import Buckets, RateLimitedError, address_key


class Gate:
    """Lets requests pass as long as their address's bucket is not empty (ASGI)."""

    def __init__(self, app: ASGIApp, buckets: Buckets) -> None:
        self._app: Final = app
        self._buckets: Final = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["client"] is not None:
            try:
                self._buckets.take(address_key(scope["client"][0]))
            except RateLimitedError as error:
                await problem(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
