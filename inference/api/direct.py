"""Direct routes: what is called thousands of times a second goes past the framework.

FastAPI's way to a route is several middlewares, a search through all routes and objects for request
and response: together longer than verifying a payment. So a POST of a direct route is answered by
its function at once; requests of pages (CORS), other methods and all other routes take the usual
way, to the same functions. So does everything once a middleware was added that nobody said could be
passed by: it sees every request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from fastapi import FastAPI, Request, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inference.api.problems import handle, problem
from inference.errors import NodeError
from inference.limits import Buckets, address_key

# What a direct route is told of a request: its headers and what its body comes from.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Direct: TypeAlias = Callable[[Headers, Receive], Awaitable[Response]]


class DirectApp(FastAPI):
    """An application with direct routes; `buckets` count each address's requests to them."""

    def __init__(self, buckets: Buckets | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._buckets: Final = buckets
        self._direct: Final[dict[str, Direct]] = {}
        self._passed_by = 0

    def pass_by(self) -> None:
        """Let direct routes go past the middlewares that were added until now."""
        self._passed_by = len(self.user_middleware)

    def post_direct(self, path: str, answer: Direct, name: str) -> None:
        """Answer POSTs of `path` by `answer`, whichever way they come."""

        async def usual(request: Request) -> Response:
            return await answer(request.scope["headers"], request.receive)

        self._direct[path] = answer
        # A plain route: FastAPI's way to a function costs even more than to a route.
        self.router.routes.append(Route(path, usual, methods=["POST"], name=name))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        answer = None
        posted = scope["type"] == "http" and scope["method"] == "POST"
        if posted and len(self.user_middleware) == self._passed_by:
            answer = self._direct.get(scope["path"])
        if answer is None or header(scope["headers"], b"origin"):
            await super().__call__(scope, receive, send)
            return
        try:
            if self._buckets is not None and scope["client"] is not None:
                self._buckets.take(address_key(scope["client"][0]))
            response = await answer(scope["headers"], receive)
        except NodeError as error:
            response = problem(error)
        except Exception as error:  # the outermost door: answered, and told to the server's log
            await (await handle(Request(scope), error))(scope, receive, send)
            raise
        await response(scope, receive, send)


def header(headers: Headers, name: bytes) -> str | None:
    """Return a header by its name in lower case, the first of several; None where it is not."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None
