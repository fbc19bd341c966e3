"""The x402 extension `bazaar`: how a paid route is called, for catalogues and agents that find it.

Source: x402 v2, extension bazaar. `info` shows one request and the shape of its answer, `schema`
(JSON Schema 2020-12) describes `info`. The whole travels in a header, and clients send it back: it
is kept short, and OpenAI's references say the rest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MESSAGE: Final = {"role": "user", "content": "Hello"}
_SAID: Final = {"role": "assistant", "content": "Hi!"}

# By path: what a request holds beside the model, and an answer.
_REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": [_MESSAGE], "max_tokens": 16},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 16},
    "/v1/classify": {"input": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
}
_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"choices": [{"message": _SAID, "finish_reason": "stop"}]},
    "/v1/completions": {"choices": [{"text": ", world", "finish_reason": "stop"}]},
    "/v1/classify": {"data": [{"label": "positive", "scores": {"positive": "0.9"}}]},
    "/v1/embeddings": {"data": [{"embedding": [0.1, -0.2]}]},
}
_TYPES: Final = {str: "string", int: "integer", list: "array"}


@lru_cache(maxsize=256)
def discovery(path: str, model: str) -> dict[str, Any] | None:
    """Return the extension for a POST to `path` with `model`, None for a path that is not sold.

    The result is shared: read it, do not change it.
    """
    request = _REQUESTS.get(path)
    if request is None:
        return None
    body = {"model": model, **request}
    return {
        "info": {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "body": body},
            "output": {"type": "json", "example": _ANSWERS[path]},
        },
        "schema": {
            "$schema": _DIALECT,
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "http"},
                        "method": {"const": "POST"},
                        "bodyType": {"const": "json"},
                        "body": _body_schema(body),
                    },
                    "required": ["type", "method", "bodyType", "body"],
                    "additionalProperties": False,
                },
                "output": {"type": "object"},
            },
            "required": ["input"],
        },
    }


def _body_schema(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": _TYPES[type(value)]} for name, value in body.items()},
        "required": ["model", next(name for name in body if name != "model")],
    }
