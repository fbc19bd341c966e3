"""What is sold is asked about again: models are stopped, and trouble with the chain only pauses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from inference.catalog import Catalog, CatalogEntry
from inference.errors import ModelStoppedError, UnavailableError
from inference.payments.channels_contract import ChannelsContract
from inference.payments.pricing import Price
from inference.watcher import DISPUTED, OK, STALE, UNREACHABLE, Watcher
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import prepare_devnet
from registry.errors import ChainDisputedError, ChainStaleError, ChainUnreachableError
from registry.manifest_parts import Parent
from registry.record import Kind
from registry.register import register_model
from registry.workspace import Workspace
from tests.fakes.rpc_proxy import RpcProxy, other_result, refusing, rpc_proxy
from tests.inference import tiny_models

DAY_S = 86_400
GRACE_S = 15.0
STUB = bytes.fromhex("363d3d373d3d3d363d5af43d82803e903d91602b57fd5bf3")


@dataclass
class Post:
    """A watcher at its post: two models on sale, `model` descending from `base`.

    The first endpoint is `near`, its witness `far`; both are honest until a test bends them.
    """

    devnet: Devnet
    near: RpcProxy
    far: RpcProxy
    workspace: Workspace
    base: bytes
    model: CatalogEntry
    other: CatalogEntry
    incidents: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0
    log_is_full: bool = False

    def __post_init__(self) -> None:
        self.catalog = Catalog()
        for entry in (self.model, self.other):
            self.catalog.add(entry)
        self.watcher = self.watch()

    def watch(self, **changes: Any) -> Watcher:
        values = {
            "poll_s": 60.0,
            "grace_s": GRACE_S,
            "clock": lambda: self.seconds,
        }
        return Watcher(self.catalog, self.workspace, self.report, **(values | changes))

    def report(self, *incident: str) -> None:
        if self.log_is_full:
            raise UnavailableError("the database is busy")
        self.incidents.append(incident)  # type: ignore[arg-type]  # three of them

    def revoke(self, id: bytes) -> None:
        self.workspace.records.revoke(self.workspace.signer("publisher"), id, "poisoned")

    def check(self) -> str:
        """Look at the chain; return what the watcher says of it."""
        self.watcher.check_records()
        return self.watcher.state()[0]

    def sold(self) -> set[str]:
        return {entry.name for entry in self.catalog if not self.catalog.stopped(entry)}

    def refuses(self, words: str) -> None:
        with pytest.raises(UnavailableError, match=f"{words}.*nothing was charged"):
            self.watcher.ready()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def post(devnet: Devnet, folder: Path, tmp_path: Path) -> Iterator[Post]:
    snapshot = devnet.snapshot()
    with rpc_proxy(devnet.rpc_url) as near, rpc_proxy(devnet.rpc_url) as far:
        path, _ = prepare_devnet(Chain(devnet.rpc_url), tmp_path / "net", devnet.rpc_url)
        text = path.read_text().replace(
            f'rpc_url = "{devnet.rpc_url}"',
            f'rpc_url = "{near.url}"\nwitnesses = ["{far.url}"]\ntimeout_s = 2',
        )
        path.write_text(text.replace("[policy]", "[policy]\nmax_block_age_s = 600"))
        workspace = Workspace.open(registry_config(path, read_file(path)))
        base, parent = _entry(workspace, folder, "base", ())
        model, _ = _entry(workspace, folder, "model", (Parent(Kind.MODEL, parent),))
        other, _ = _entry(workspace, folder, "other", ())
        base.verified.close()
        yield Post(devnet, near, far, workspace, parent, model, other)
        for entry in (model, other):
            entry.verified.close()
    devnet.revert(snapshot)


def _entry(
    workspace: Workspace, folder: Path, name: str, parents: tuple[Parent, ...]
) -> tuple[CatalogEntry, bytes]:
    model_id = register_model(
        folder,
        name=name,
        task="chat",
        parents=parents,
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=workspace.signer("publisher"),
    ).id
    vouch(workspace, model_id, DAY_S)
    verified = workspace.verify(model_id, folder=folder)
    # What computes is not looked at here: nothing is asked of the model itself.
    entry = CatalogEntry(name, verified, None, None, Price(1, 0, 0))  # type: ignore[arg-type]
    return entry, model_id


def vouch(workspace: Workspace, model_id: bytes, seconds: int, tag: str = "integrity") -> None:
    """Attest a model for so long, by the later of the two clocks."""
    now = max(workspace.chain.head().timestamp, int(time.time()))
    signer = workspace.signer("attester")
    workspace.attestations.attest(signer, model_id, tag, 10_000, now + seconds)


def flipped(result: str) -> str:
    return result[:-1] + ("0" if result[-1] != "0" else "1")


async def running(watcher: Watcher, until: Callable[[], bool], seconds: float) -> float:
    """Let a watcher run until something holds; return after how long it did."""
    task = asyncio.create_task(watcher.run())
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            while not until():
                assert not task.done(), task
                await asyncio.sleep(0.005)
        return time.monotonic() - began
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# Trouble with the chain


def test_silence_pauses_after_the_grace_and_passes_when_the_chain_answers_again(
    post: Post,
) -> None:
    assert post.check() == OK
    post.near.dark = True
    post.seconds = GRACE_S
    assert post.check() == OK
    post.watcher.ready()
    post.seconds += 1
    assert post.check() == UNREACHABLE
    assert "HTTP status 503" in post.watcher.state()[1]
    post.refuses("has not answered for 16 s")
    post.near.clear()
    assert post.check() == OK
    post.watcher.ready()
    assert post.sold() == {"model", "other"}
    assert post.incidents == []


def test_a_witness_that_is_silent_pauses_too(post: Post) -> None:
    post.far.dark = True
    post.seconds = GRACE_S + 1
    assert post.check() == UNREACHABLE
    post.refuses("has not answered")
    post.far.clear()
    assert post.check() == OK


def test_money_moves_by_the_word_of_the_first_endpoint_alone(post: Post) -> None:
    # A witness has the newest block a moment later, and payments are read at the newest.
    channels = ChannelsContract(
        post.workspace.chain, post.workspace.config.contracts.payment_channels
    )
    post.far.dark = True
    assert channels.state("0x" + "00" * 32, now=0).balance == 0
    with pytest.raises(ChainUnreachableError):
        post.workspace.verify(post.model.verified.model_id)


def test_a_chain_that_does_not_move_pauses_and_never_stops_a_model(post: Post) -> None:
    assert post.check() == OK
    old = hex(int(time.time()) - 10_000)
    for proxy in (post.near, post.far):
        proxy.bend = other_result("eth_getBlockByNumber", lambda b: b | {"timestamp": old})
    post.seconds = GRACE_S + 1
    assert post.check() == STALE
    assert "s old" in post.watcher.state()[1]
    post.refuses("no fresh block")
    with pytest.raises(ChainStaleError):
        post.workspace.verify(post.model.verified.model_id)
    for proxy in (post.near, post.far):
        proxy.clear()
    assert post.check() == OK
    post.watcher.ready()
    assert post.sold() == {"model", "other"}


def test_a_block_that_grows_old_while_nothing_follows_is_noticed(post: Post) -> None:
    now = int(time.time())
    age = now - post.devnet.chain.head().timestamp
    config = post.workspace.config
    policy = replace(config.policy, max_block_age_s=age + 2)
    post.workspace = replace(post.workspace, config=replace(config, policy=policy))
    post.watcher = post.watch()
    assert post.check() == OK
    time.sleep(now + 4 - time.time())
    post.seconds = GRACE_S + 1
    assert post.check() == STALE
    assert post.sold() == {"model", "other"}


def test_two_endpoints_that_disagree_pause_at_once_and_no_model_can_be_verified(
    post: Post,
) -> None:
    assert post.check() == OK
    post.devnet.mine()
    post.far.bend = other_result("eth_call", flipped)
    assert post.check() == DISPUTED
    assert post.watcher.silent_s() == 0
    assert "two endpoints disagree" in post.watcher.state()[1]
    post.refuses("disputed")
    with pytest.raises(ChainDisputedError) as caught:
        post.workspace.verify(post.model.verified.model_id)
    assert {host for host, _ in caught.value.evidence} == {
        post.near.url.removeprefix("http://"),
        post.far.url.removeprefix("http://"),
    }
    post.far.clear()
    assert post.check() == OK
    post.watcher.ready()
    assert post.sold() == {"model", "other"}


def test_an_endpoint_that_hides_a_revocation_sells_nothing(post: Post) -> None:
    before = post.workspace.chain.head()
    post.check()
    post.revoke(post.model.verified.model_id)
    pinned = {"blockHash": f"0x{before.hash.hex()}", "requireCanonical": True}

    def hide(question: Any, answer: Any) -> Any:
        # It answers every question about a record as of the block before.
        if question["method"] != "eth_call":
            return answer
        question = question | {"params": [question["params"][0], pinned]}
        return post.near._ask(question)

    post.near.bend = hide
    assert post.check() == DISPUTED
    post.refuses("disputed")
    post.near.clear()
    assert post.check() == OK
    assert post.sold() == {"other"}


def test_silence_does_not_settle_a_dispute(post: Post) -> None:
    post.devnet.mine()
    post.far.bend = other_result("eth_call", flipped)
    assert post.check() == DISPUTED
    post.far.bend, post.far.dark = other_result("eth_call", lambda r: r), True
    assert post.check() == DISPUTED
    post.refuses("disputed")
    post.far.clear()
    assert post.check() == OK


def test_a_contract_whose_code_changed_pauses_at_once(post: Post) -> None:
    assert post.check() == OK
    snapshot = post.devnet.snapshot()
    post.devnet.mine()
    post.devnet.set_code(post.workspace.attestations.address, STUB)
    post.devnet.mine()
    assert post.check() == DISPUTED
    assert "the code of Attestations" in post.watcher.state()[1]
    with pytest.raises(ChainDisputedError, match="the code of Attestations"):
        post.workspace.verify(post.model.verified.model_id)
    post.devnet.revert(snapshot)
    assert post.check() == OK
    assert post.sold() == {"model", "other"}


def test_a_record_that_an_endpoint_lost_pauses_and_does_not_stop(post: Post) -> None:
    id = post.model.verified.model_id.hex()
    zeros = other_result("eth_call", lambda r: "0x" + "0" * (len(r) - 2), data=id)
    post.near.bend = post.far.bend = zeros
    post.devnet.mine()
    post.seconds = GRACE_S + 1
    assert post.check() == UNREACHABLE
    post.refuses("has not answered")
    assert post.sold() == {"model", "other"}


def test_trouble_with_one_model_does_not_hide_the_revocation_of_another(post: Post) -> None:
    post.revoke(post.other.verified.model_id)
    limit = {"code": -32005, "message": "limit exceeded"}
    post.near.bend = refusing("eth_call", limit, data=post.model.verified.model_id.hex())
    post.check()
    assert post.sold() == {"model"}


def test_before_the_first_answer_the_grace_runs(post: Post) -> None:
    assert post.watcher.block is None
    post.seconds = GRACE_S + 1
    post.refuses("has not answered")


# Models


@pytest.mark.parametrize(
    ("what", "words"),
    [("model", "revoked by its publisher"), ("base", "tainted by model"), ("vouching", "0 known")],
)
def test_a_model_that_the_chain_speaks_against_is_stopped_with_an_incident(
    post: Post, what: str, words: str
) -> None:
    post.check()
    stood = post.catalog.block(post.model)
    verified = post.model.verified
    if what == "vouching":
        signer = post.workspace.signer("attester")
        post.workspace.attestations.revoke(signer, verified.attestations[0].id)
    else:
        post.revoke(verified.model_id if what == "model" else post.base)
    assert post.check() == OK
    assert post.sold() == {"other"}
    with pytest.raises(ModelStoppedError, match=words):
        post.catalog.get("model")
    ((kind, subject, detail),) = post.incidents
    assert (kind, subject) == ("model stopped", post.model.model_id)
    assert words in detail
    # Receipts of calls in flight go on naming the block at which it still stood.
    assert post.catalog.block(post.model) == stood != post.catalog.block(post.other)


def test_an_incident_that_the_log_cannot_take_is_told_later_and_the_model_stopped_now(
    post: Post,
) -> None:
    post.log_is_full = True
    post.revoke(post.model.verified.model_id)
    post.revoke(post.other.verified.model_id)
    assert post.check() == OK
    assert post.sold() == set()
    assert post.incidents == []
    post.log_is_full = False
    post.check()
    post.check()
    assert [subject for _, subject, _ in post.incidents] == [
        post.model.model_id,
        post.other.model_id,
    ]


def test_an_attestation_that_ends_is_noticed_without_a_new_block(post: Post) -> None:
    clock = [float(post.model.verified.attestations[0].expires_at) - 1]
    watcher = post.watch(now=lambda: clock[0])
    watcher.check_records()
    asked = len(post.near.asked)
    watcher.check_records()
    # At the same block only the block itself, and the code, are asked for again.
    assert set(post.near.asked[asked:]) == {"eth_getBlockByNumber", "eth_getCode"}
    clock[0] += 1
    before = len(post.near.asked)
    watcher.check_records()
    assert "eth_call" in post.near.asked[before:]


def test_a_watch_with_a_long_pause_wakes_when_an_attestation_ends(post: Post) -> None:
    workspace = post.workspace
    signer = workspace.signer("attester")
    short = post.other.verified
    workspace.attestations.revoke(signer, short.attestations[0].id)
    vouch(workspace, short.model_id, 3, "brief")
    ends = workspace.attestations.attestations_of(short.model_id)[-1].expires_at
    watcher = post.watch()
    asyncio.run(running(watcher, lambda: post.sold() == {"model"}, 30))
    assert -0.1 <= time.time() - ends <= 5


def test_a_newer_attestation_keeps_a_model_on_sale(post: Post) -> None:
    post.check()
    attestations, id = post.workspace.attestations, post.model.verified.model_id
    vouch(post.workspace, id, DAY_S, "safety")
    attestations.revoke(post.workspace.signer("attester"), post.model.verified.attestations[0].id)
    assert post.check() == OK
    assert post.sold() == {"model", "other"}
    assert post.catalog.block(post.model) == post.devnet.chain.head() == post.watcher.block


def test_a_pushed_head_wakes_the_watch_long_before_its_next_poll(post: Post) -> None:
    watcher = post.watch()

    async def watch() -> float:
        async def revoke() -> None:
            while not watcher.pushed or watcher.block is None:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(post.revoke, post.model.verified.model_id)

        revoking = asyncio.create_task(revoke())
        waited = await running(watcher, lambda: post.sold() == {"other"}, 30)
        await revoking
        return waited

    assert asyncio.run(watch()) < 15  # the next poll is a minute away
    assert not watcher.pushed or watcher.block is not None


def test_where_heads_are_not_pushed_they_are_polled(post: Post) -> None:
    watcher = post.watch(poll_s=0.1)
    watcher._heads = None
    post.revoke(post.model.verified.model_id)
    asyncio.run(running(watcher, lambda: post.sold() == {"other"}, 30))
    assert not watcher.pushed


def test_the_watch_begins_with_a_look(post: Post) -> None:
    post.revoke(post.model.verified.model_id)
    watcher = post.watch()
    watcher._heads = None
    asyncio.run(running(watcher, lambda: post.sold() == {"other"}, 30))
