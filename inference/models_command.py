"""`weightproof models`: what a running node sells, changed by its operator while it sells."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Any, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from inference.config import ModelConfig, NodeConfig, node_url
from inference.errors import UnavailableError
from inference.operator import OperatorRefusedError
from inference.operator_client import OperatorClient
from registry.config import checked_address
from registry.errors import ConfigError
from registry.terminal import Terminal, plain

# Seconds between two looks at a load.
_POLL_S: Final = 0.3
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class LoadOrder:
    """What to load, as the command line has it; what is left out is the settings' own.

    Prices are in atomic units; `record` is a ModelId or PUBLISHER/NAME.
    """

    name: str
    record: str
    folder: str
    per_call: int | None
    input_per_million: int | None
    output_per_million: int | None

    def prices(self) -> dict[str, int]:
        """Return the prices that were given."""
        given = {
            "per_call": self.per_call,
            "input_per_million": self.input_per_million,
            "output_per_million": self.output_per_million,
        }
        return {part: amount for part, amount in given.items() if amount is not None}


def operator_client(config: NodeConfig, url: str, address: str) -> OperatorClient:
    """Return a client that signs with the key of role `operator`, else `node`.

    `address` is the node's own, which the settings' key of role `node` tells where it is empty.
    """
    keys, chain_id = config.registry.keys, config.registry.contracts.chain_id
    role = "operator" if "operator" in keys.references else "node"
    signer = keys.signer(role, chain_id=chain_id)
    if address:
        node = checked_address(address, "--address")
    elif "node" in keys.references:
        node = keys.signer("node", chain_id=chain_id).address
    else:
        raise ConfigError("no key of role 'node' tells which node this is", hint="give --address")
    return OperatorClient(url or node_url(config), signer=signer, chain_id=chain_id, node=node)


def show_models(client: OperatorClient, terminal: Terminal) -> None:
    """Print what the node holds."""
    found = client.models()
    if terminal.as_json:
        terminal.result(found)
        return
    rows: dict[str, object] = {model["name"]: _line(model) for model in found["models"]}
    used, budget = found["used_bytes"] / _MIB, found["budget_bytes"] / _MIB
    rows["(memory)"] = f"{used:,.1f} of {budget:,.1f} MiB"
    if loading := found["loading"]:
        rows["(loading)"] = f"{loading['name']}: {loading['step']}"
    if failure := found["failure"]:
        rows["(failed last)"] = f"{failure['name']}: {failure['message']}"
    terminal.result(rows)


def load_model(
    client: OperatorClient, order: LoadOrder, config: NodeConfig, terminal: Terminal
) -> None:
    """Load or swap a model, with a bar, and print what was done."""
    own = next((model for model in config.models if model.name == order.name), None)
    prices = order.prices() or (asdict(own.price) if own else {})
    if not prices:
        raise ConfigError(
            f"no price for {order.name!r:.80}", hint="give --per-call, or a model of the settings"
        )
    # A price that is given stands for all; the settings' own may have a tier for exact answers.
    exact = (
        None if order.prices() or own is None or not own.exact_price else asdict(own.exact_price)
    )
    model_id = _model_id(order, own, config)
    folder = order.folder
    if own is not None and own.folder is not None and own.model_id == model_id:
        folder = folder or str(own.folder.resolve())
    job: Future[dict[str, Any]] = Future()

    def load() -> None:
        try:
            job.set_result(
                client.load(order.name, model_id, prices, folder=folder, exact_price=exact)
            )
        except BaseException as error:  # carried to the other thread, as concurrent.futures does
            job.set_exception(error)

    # Ctrl-C must not wait for it; the node goes on loading then.
    Thread(target=load, daemon=True).start()
    _watch(client, job, terminal)
    terminal.result(job.result())


def _model_id(order: LoadOrder, own: ModelConfig | None, config: NodeConfig) -> bytes:
    if not order.record:
        if own is None:
            raise ConfigError(
                f"no model {order.name!r:.80} in the settings", hint="give its ModelId too"
            )
        return own.model_id
    digits = order.record.removeprefix("0x")
    try:
        model_id = bytes.fromhex(digits)
    except ValueError:
        model_id = b""
    if len(model_id) == 32:
        return model_id
    publisher, _, name = order.record.partition("/")
    record = f"{checked_address(publisher, 'RECORD')}/{name}"
    # web3 takes a second to import, and a ModelId needs none of it.
    from registry.workspace import Workspace

    return Workspace.open(config.registry).find(record)


def _watch(client: OperatorClient, job: Future[dict[str, Any]], terminal: Terminal) -> None:
    """Draw how far the load is until it ends."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
        disable=terminal.as_json or not terminal.err.is_terminal,
    )
    with bar:
        task = bar.add_task("waiting", total=None)
        show = _shower(lambda **values: bar.update(task, **values))
        while not job.done():
            wait([job], timeout=_POLL_S)
            if bar.disable or job.done():
                continue
            try:
                show(client.models()["loading"])
            except (UnavailableError, OperatorRefusedError):
                continue  # The load itself says what is wrong.


def _shower(update: Callable[..., None]) -> Callable[[Mapping[str, Any] | None], None]:
    def show(loading: Mapping[str, Any] | None) -> None:
        if loading is not None:
            update(
                description=plain(str(loading["step"])),
                completed=loading["done"],
                total=loading["total"] or None,
            )

    return show


def _line(model: Mapping[str, Any]) -> str:
    paid = "never paid"
    if model["paid_at"]:
        paid = f"paid {max(0, int(time.time()) - model['paid_at'])} s ago"
    why = f" ({model['stopped_because']})" if model["stopped_because"] else ""
    return (
        f"{model['state']}{why} · {model['task']} · {model['memory_bytes'] / _MIB:,.1f} MiB on "
        f"{model['device']} · {model['leases']} calls in flight · {paid} · {model['model_id']}"
    )
