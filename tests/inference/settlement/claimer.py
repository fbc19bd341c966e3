"""A process that settles once: forked from a server that has imported everything already."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from tests.inference.settlement.stall import Stall

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class Elsewhere(Devnet):
    """Somebody else's devnet."""

    def __init__(self, rpc_url: str) -> None:
        self.rpc_url = rpc_url  # type: ignore[misc]  # a devnet that was not started here


@contextmanager
def claimer(stall: Stall, url: str) -> Iterator[tuple[BaseProcess, Any]]:
    """Settle in another process through the endpoint `url`; what it tells comes over a pipe."""
    told, tells = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_settle, args=(url, stall.folder, stall.deployment.to_json(), tells)
    )
    process.start()
    tells.close()
    try:
        yield process, told
    finally:
        process.kill()
        process.join()


def _settle(url: str, folder: Path, deployment: dict[str, Any], tells: Connection) -> None:
    stall = Stall(Elsewhere(url), Deployment.from_json(deployment), folder, url=url)
    tells.send(stall.settlement.tick().claimed)
    stall.database.close()
