"""A node as its operator commands it: signs each request, and turns refusals into our errors."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx

from inference.errors import NodeError, UnavailableError
from inference.operator import (
    Command,
    ModelRefusedError,
    OperatorRefusedError,
    operator_domain,
)
from registry.errors import ConfigError
from registry.signing.signer import Signer

PATH: Final = "/admin/models"
# Seconds a signed command stays good: for its way, and for clocks that differ a little.
_AHEAD_S: Final = 30
# Seconds for everything but a load, which takes as long as it takes.
_TIMEOUT_S: Final = 30.0


class OperatorClient:
    """Commands the node at `url`, whose own address is `node`, with the operator's key.

    Several threads may use it: one waits for a load while another asks how far it is.
    """

    def __init__(self, url: str, *, signer: Signer, chain_id: int, node: str) -> None:
        self._http: Final = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S)
        self._signer: Final = signer
        self._domain: Final = operator_domain(chain_id, node)
        self._session: bytes | None = None

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def models(self) -> dict[str, Any]:
        """Return what the node holds, and a load under way. Raises what `load` raises."""
        return self._order("list", "GET", PATH)

    def load(
        self,
        name: str,
        model_id: bytes,
        price: Mapping[str, int],
        *,
        folder: str = "",
        exact_price: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Load a model, or swap it for the one of that name; return when it is on sale.

        `folder` is an absolute path on the node's machine, empty for the block store;
        `exact_price` is that of exact answers, `price` where it is None. Raises
        `ModelRefusedError` for a model that is refused, `ConfigError` for a wrong request or key,
        `UnavailableError` for a node that does not answer or cannot load now.
        """
        body: dict[str, object] = {"name": name, "id": "0x" + model_id.hex(), "price": dict(price)}
        if folder:
            body["folder"] = folder
        if exact_price:
            body["exact_price"] = dict(exact_price)
        return self._order("load", "POST", PATH, json.dumps(body).encode(), timeout=None)

    def unload(self, name: str) -> dict[str, Any]:
        """Take a model off sale. Raises what `load` raises."""
        return self._order("unload", "DELETE", f"{PATH}/{name}")

    def _order(
        self,
        action: str,
        method: str,
        path: str,
        body: bytes = b"",
        timeout: float | None = _TIMEOUT_S,
    ) -> dict[str, Any]:
        self._session = self._session or self._ask_session()
        command = Command(
            action=action,
            path=path,
            body=body,
            session=self._session,
            nonce=secrets.token_bytes(32),
            deadline=int(time.time()) + _AHEAD_S,
        )
        headers = {"Authorization": command.signed(self._signer, self._domain)}
        return self._answer(method, path, headers=headers, content=body, timeout=timeout)

    def _ask_session(self) -> bytes:
        facts = self._answer("GET", "/admin")
        expected = (self._domain.contract, self._domain.chain_id)
        # A node that passes for another could have a command signed that it then hands on.
        if (facts.get("node"), facts.get("chain_id")) != expected:
            raise ConfigError(
                f"the node is {facts.get('node')!r:.60} on chain {facts.get('chain_id')!r:.20}, "
                f"not {expected[0]} on chain {expected[1]}",
                hint="look at --node and --address",
            )
        try:
            return bytes.fromhex(str(facts["session"])[2:])
        except (KeyError, ValueError) as error:
            raise UnavailableError("the node tells no session to sign for") from error

    def _answer(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, quote(path), **options)
            found = response.json()
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"the node at {self._http.base_url} does not answer: {type(error).__name__}",
                hint="is it running, and is the address right?",
            ) from error
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnavailableError(
                f"the node at {self._http.base_url} does not speak of models",
                hint="is the address right, and the node of this version?",
            )
        if response.is_success:
            return found
        raise _problem(response.status_code, found)


def _problem(status: int, found: Mapping[str, Any]) -> NodeError | ConfigError:
    try:
        message, code = str(found["error"]["message"]), str(found["error"]["code"])
    except (KeyError, TypeError):
        message, code = f"status {status}", ""
    if code == OperatorRefusedError.code:
        return OperatorRefusedError(f"the node refused the command: {message}")
    if status == 422:
        return ModelRefusedError(message)
    if status in (409, 503):
        return UnavailableError(f"the node did not do it: {message}")
    if status < 500:
        return ConfigError(f"the node refused the command: {message}")
    return NodeError(f"the node failed: {message}")
