"""A node seen from outside: its address, its models."""

from __future__ import annotations

from typing import Any

import httpx

from inference.errors import ModelUnknownError, UnavailableError

_TIMEOUT_S = 30.0


def node_client(url: str) -> httpx.Client:
    """Return an HTTP client for the node at `url`."""
    return httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S)


def bounded(
    client: httpx.Client, method: str, path: str, *, limit: int, **request: Any
) -> tuple[httpx.Response, bytes]:
    """Ask once; return the answer's head and its body, cut off a little beyond `limit` bytes.

    Raises `UnavailableError` when the node does not answer.
    """
    body = bytearray()
    try:
        with client.stream(method, path, **request) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > limit:
                    break
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"the node at {client.base_url} does not answer: {type(error).__name__}",
            hint="is the node running, and is the address right?",
        ) from error
    return response, bytes(body)


def models(client: httpx.Client) -> list[dict[str, Any]]:
    """Return what the node says it sells. Raises `UnavailableError`."""
    try:
        answer = client.get("/v1/models")
        answer.raise_for_status()
        found = answer.json()["data"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"the node at {client.base_url} does not list its models",
            hint="is it running, and is the address right?",
        ) from error
    return list(found)


def first_model(client: httpx.Client, task: str) -> str:
    """Return the name of the first model on sale for a task. Raises `ModelUnknownError`."""
    for model in models(client):
        facts = model["weightproof"]
        if facts["task"] == task and facts["status"] == "active":
            return str(model["id"])
    raise ModelUnknownError(f"the node sells no model for {task}")
