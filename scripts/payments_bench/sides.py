"""The sides: our node and the official middleware, each in a process, with channels to pay by."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from engine_bench.server_process import ServerProcess, free_port
from engine_bench.stream import Connection, Received
from engine_bench.wallet import Wallet

from inference.payments.token_contract import TokenContract
from payments_bench.load import request
from payments_bench.market import BODY, PATH, PER_CALL, Market
from payments_bench.our_node import UNPAID
from registry.chain.connection import Chain
from registry.chain.dev_usd import ONE
from registry.signing.signer import ANVIL_CHAIN_ID, Signer

OURS: Final = "ours"
OFFICIAL: Final = "official_coincurve"
OFFICIAL_PIP: Final = "official_pip"
PAID: Final = (OURS, OFFICIAL, OFFICIAL_PIP)
# Sides without channels, and whose server they ask.
_ON: Final = {"ours_unpaid": OURS, "ours_402": OURS, "official_402": OFFICIAL}
_SCRIPTS: Final = Path(__file__).resolve().parent.parent
_READY_S: Final = 120
# What each channel is opened with.
_DEPOSIT: Final = 5 * ONE
# Anvil's account that receives for the official servers; the node has another.
_RECEIVER: Final = 8


@dataclass
class Side:
    """A server and one channel for each worker; without channels its calls are not paid."""

    name: str
    process: ServerProcess
    path: str = PATH
    status: int = 200
    wallets: list[Wallet] = field(default_factory=list)

    async def open_channels(self, market: Market, count: int, *, first: int) -> None:
        """Fund `count` channels: one call each pays it in. `first` numbers them."""
        registry = market.config.registry
        key = registry.keys.signer("payer", chain_id=registry.contracts.chain_id)
        connection = await Connection.open(self.process.port)
        try:
            demand = await self._post(connection, {})
            for number in range(first, first + count):
                wallet = Wallet(key, registry.contracts, demand, number=number)
                wallet.book(await self._post(connection, wallet.headers(deposit=_DEPOSIT)))
                self.wallets.append(wallet)
        finally:
            connection.close()

    def requests(self, workers: int, calls: int) -> list[list[bytes]]:
        """Return about `calls` requests for so many workers, all paid for."""
        each = max(2, calls // workers)
        if not self.wallets:
            return [[request(self.path, BODY, {})] * each for _ in range(workers)]
        return [
            [request(self.path, BODY, headers) for headers in wallet.ahead(each)]
            for wallet in self.wallets[:workers]
        ]

    async def _post(self, connection: Connection, headers: Mapping[str, str]) -> Received:
        return await connection.post(self.path, BODY, headers)


@contextmanager
def set_up(
    market: Market,
    made: Path,
    say: Callable[[str], None],
    *,
    only: Collection[str] = (),
    profile: Path | None = None,
) -> Iterator[dict[str, Side]]:
    """Start one server for each side that is paid, and wait until all are ready.

    `only` are the sides that are asked for, all without it.
    """
    paths = [str(_SCRIPTS), str(_SCRIPTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    commands = {
        OURS: [*_module("our_node"), "--config", str(market.settings)],
        OFFICIAL: _official(market),
        OFFICIAL_PIP: [*_official(market), "--pure-python"],
    }
    if profile is not None:
        commands[OURS] += ["--profile", str(profile)]
    servers = {_ON.get(name, name) for name in only or commands}
    commands = {name: command for name, command in commands.items() if name in servers}
    sides: dict[str, Side] = {}
    with ExitStack() as stack:
        for name, command in commands.items():
            say(f"starting {name}")
            port = free_port()
            process = ServerProcess.start(
                name,
                [*command, "--port", str(port)],
                folder=made,
                port=port,
                environment=environment,
            )
            stack.callback(process.stop)
            sides[name] = Side(name, process)
        for name, side in sides.items():
            side.process.wait_ready("/v1/models" if name == OURS else "/ready", _READY_S)
        _check_backends(sides)
        for name, server in _ON.items():
            if server in sides:
                path, status = (UNPAID, 200) if name == "ours_unpaid" else (PATH, 402)
                sides[name] = Side(name, sides[server].process, path=path, status=status)
        yield sides


def _check_backends(sides: Mapping[str, Side]) -> None:
    """Make sure that the two official servers compute with what their names say."""
    for name, backend in ((OFFICIAL, "CoinCurveECCBackend"), (OFFICIAL_PIP, "NativeECCBackend")):
        if name not in sides:
            continue
        found = httpx.get(f"http://127.0.0.1:{sides[name].process.port}/ready").json()["backend"]
        if found != backend:
            raise TypeError(f"{name} computes with {found}, not with {backend}")


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"payments_bench.{name}"]


def _official(market: Market) -> list[str]:
    config = market.config.registry
    asset = config.contracts.dev_usd or ""
    token = TokenContract(Chain(market.rpc_url), asset).token()
    receiver = Signer.anvil(_RECEIVER, chain_id=ANVIL_CHAIN_ID)
    options: dict[str, Any] = {
        "rpc": market.rpc_url,
        "network": f"eip155:{ANVIL_CHAIN_ID}",
        "asset": asset,
        "asset-name": token.name,
        "asset-version": token.version,
        "path": PATH,
        # A key of Anvil's, which everybody knows.
        "key": "0x" + receiver.secret().hex(),
        "price": PER_CALL,
    }
    pairs: Sequence[str] = [word for k, v in options.items() for word in (f"--{k}", str(v))]
    return [*_module("official_server"), *pairs]
