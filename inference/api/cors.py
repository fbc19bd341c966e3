"""CORS: pages of any origin may buy; what this machine alone may read stays closed to them.

Nothing here is open by a cookie: a wallet's signature says who asks, so any page may call. But
`/metrics` answers whoever calls from this machine, and a page in a browser on it does; `/admin` is
for the operator's command line.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

# What pages may read beside the body (x402 over HTTP).
_EXPOSED: Final = ("PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "Retry-After")
_CLOSED: Final = ("/admin", "/metrics")
_PREFLIGHT_S: Final = 86400


class Cors(CORSMiddleware):
    """Answers preflights and says what pages may read, but for the closed paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http" and scope["path"].startswith(_CLOSED):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def open_to_pages(app: FastAPI) -> None:
    """Let pages of other origins call the paid routes and read the log.

    Any header may be sent: clients have their own, such as x402's, OpenAI's, and the
    Access-Control-Expose-Headers that the official JavaScript client puts on paid requests.
    """
    app.add_middleware(
        Cors,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_S,
    )
