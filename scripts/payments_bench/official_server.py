"""The official FastAPI middleware of PyPI `x402` before a handler that answers at once.

Its facilitator runs inside the process, so that no call waits for another one: faster than any
deployment of it. With `--pure-python` the process cannot import coincurve, as after a plain
`pip install x402[fastapi,evm]`. Run as `python -m payments_bench.official_server`.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Blocked(MetaPathFinder):
    """Finds that coincurve is not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse coincurve; leave everything else to the others."""
        if fullname.partition(".")[0] == "coincurve":
            raise ModuleNotFoundError(f"{fullname} is kept away from this process")
        return None


def create_app(options: argparse.Namespace) -> Any:
    """Return the application. Everything is imported here, after coincurve was kept away."""
    from fastapi import FastAPI, Request
    from x402 import x402Facilitator, x402ResourceServer
    from x402.http.middleware.fastapi import payment_middleware
    from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner
    from x402.mechanisms.evm.batch_settlement.facilitator import BatchSettlementEvmFacilitator
    from x402.mechanisms.evm.batch_settlement.server import (
        BatchSettlementEvmScheme,
        BatchSettlementEvmSchemeServerConfig,
    )
    from x402.mechanisms.evm.signers import FacilitatorWeb3Signer

    authorizer = LocalAuthorizerSigner(options.key)
    signer = _single_reads(FacilitatorWeb3Signer)(options.key, options.rpc)
    facilitator = x402Facilitator()
    facilitator.register([options.network], BatchSettlementEvmFacilitator(signer, authorizer))
    server = x402ResourceServer(facilitator)
    settings = BatchSettlementEvmSchemeServerConfig(receiver_authorizer_signer=authorizer)
    scheme: Any = BatchSettlementEvmScheme(authorizer.address, settings)
    server.register(options.network, scheme)
    price = {
        "amount": str(options.price),
        "asset": options.asset,
        "extra": {"name": options.asset_name, "version": options.asset_version},
    }
    accepts = {
        "scheme": "batch-settlement",
        "payTo": authorizer.address,
        "price": price,
        "network": options.network,
    }
    app = FastAPI()
    routes: Any = {f"POST {options.path}": {"accepts": accepts}}
    pay = payment_middleware(routes, server)
    app.middleware("http")(pay)

    @app.post(options.path)
    async def answer(request: Request) -> dict[str, object]:
        asked = await request.json()
        scores = {"no": 0.25, "yes": 0.75}
        data = [{"index": 0, "label": "yes", "scores": scores}]
        return {"object": "list", "model": asked["model"], "data": data}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        from eth_keys.datatypes import PrivateKey

        return {"backend": type(PrivateKey(b"\1" * 32).backend).__name__}

    return app


def _single_reads(signer: Any) -> Any:
    """Return the facilitator's signer for a chain without Multicall3: it reads one by one.

    Only deposits read the chain, and a channel that was not used for minutes: no call measured.
    """
    from x402.mechanisms.evm.constants import MULTICALL3_ADDRESS

    class SingleReads(signer):  # type: ignore[misc]  # the library has no types
        """Asks for each part of a `tryAggregate` by itself."""

        def read_contract(self, address: str, abi: Any, name: str, *parts: Any) -> Any:
            if address != MULTICALL3_ADDRESS:
                return super().read_contract(address, abi, name, *parts)
            call = self._w3.eth.call
            return [(True, bytes(call({"to": to, "data": data}))) for to, data in parts[1]]

    return SingleReads


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    for name in ("rpc", "network", "asset", "asset-name", "asset-version", "path", "key"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--price", type=int, required=True)
    parser.add_argument("--pure-python", action="store_true", help="keep coincurve away")
    options = parser.parse_args(arguments)
    if options.pure_python:
        sys.meta_path.insert(0, _Blocked())
    import uvicorn

    app = create_app(options)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1:])
