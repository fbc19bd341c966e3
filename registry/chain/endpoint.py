"""One JSON-RPC endpoint: a web3 provider whose only failure is `ChainUnreachableError`.

An endpoint may be slow, broken or hostile: answers are bounded in size and time, redirects and
compressed bodies are refused, and nothing is retried here, so that the caller decides.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError
from web3 import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from registry.errors import ChainUnreachableError, ConfigError

# A page of logs is the largest answer we ask for; beyond this somebody is wasting our memory.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def host_of(address: str, schemes: tuple[str, ...]) -> str:
    """Return the host and port of an endpoint's address, the part of it that may be shown.

    Raises `ConfigError` unless its scheme is one of `schemes`. User names, paths and queries of
    such addresses hold API keys: neither errors nor logs may name more than the host.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in schemes or not host:
        raise ConfigError(
            f"an endpoint's address does not begin with {' or '.join(f'{s}://' for s in schemes)} "
            "and a host"
        )
    return f"{host}:{port}" if port else host


class Endpoint(HTTPProvider):
    """HTTP JSON-RPC with one session a thread, a deadline for each answer and bounded answers."""

    # EIP-3668 lets a contract make the reader fetch any address; ours never need it.
    global_ccip_read_enabled = False

    def __init__(self, rpc_url: str, *, timeout_s: float) -> None:
        self.host: Final = host_of(rpc_url, ("http", "https"))
        super().__init__(rpc_url, exception_retry_configuration=None)
        self._url: Final = rpc_url
        self._timeout_s: Final = timeout_s
        self._local: Final = threading.local()
        self._is_local: Final = urlsplit(rpc_url).hostname in _LOOPBACK

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask once. Raises `ChainUnreachableError` unless an answer of JSON-RPC's shape came."""
        data = self.encode_rpc_request(method, params)
        try:
            body = self._post(data)
            answer = json.loads(body)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise self._unreachable(type(error).__name__) from error
        except (ValueError, RecursionError) as error:
            raise self._unreachable("the answer is not JSON") from error
        if not isinstance(answer, dict) or not ({"result", "error"} & answer.keys()):
            raise self._unreachable("the answer is not JSON-RPC")
        return answer  # type: ignore[return-value]  # a TypedDict; web3 checks its members

    def _post(self, data: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        with self._session().post(
            self._url,
            data=data,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=self._timeout_s,
            allow_redirects=False,
            stream=True,
        ) as answer:
            if answer.status_code != 200 or "Content-Encoding" in answer.headers:
                raise self._unreachable(f"HTTP status {answer.status_code}")
            pieces, size = [], 0
            while piece := answer.raw.read1(_PIECE_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_ANSWER_BYTES:
                    raise self._unreachable(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise self._unreachable(f"no whole answer within {self._timeout_s} s")
        return b"".join(pieces)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # A proxy meant for the internet must not see a devnet's traffic.
            session.trust_env = not self._is_local
            self._local.session = session
        return session

    def _unreachable(self, why: str) -> ChainUnreachableError:
        return ChainUnreachableError(
            f"the chain at {self.host} gave no usable answer: {why}",
            hint="check the RPC address and that the endpoint is up",
        )
