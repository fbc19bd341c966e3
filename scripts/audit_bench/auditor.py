"""The auditor: receipts a second through checks 1 to 7, of a log that is read over HTTP.

The chain is a devnet of its own. The log is made beforehand, and its pages are files for a server
in another process, so that what is measured is the auditor, from the first question to the report.
Every 50 calls are of another channel.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any, Final, TypeAlias

import httpx

from inference.audit import merkle
from inference.audit.anchor import AnchorContract
from inference.audit.chain_view import AuditTarget, ChannelState, OnchainView
from inference.audit.checkpoint import Checkpoint, SignedCheckpoint, sign
from inference.audit.document import ZERO_DIGEST
from inference.audit.log import GENESIS, MAX_PAGE
from inference.audit.note_key import bind
from inference.audit.reader import KeyedLogIdentity, LogReader
from inference.auditor import Questions, audit
from inference.receipt_format import (
    BlockFacts,
    ModelFacts,
    PaymentFacts,
    PriceFacts,
    ReceiptFacts,
    RequestFacts,
    ResponseFacts,
    RuntimeFacts,
    SamplingFacts,
    TokenFacts,
)
from inference.receipts import SignedReceipt, issue, receipt_domain
from registry.chain.attestations import AttestationBook
from registry.chain.deploy import Deployment, deploy
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.hashing.parallel import processors
from registry.record import Kind, record_id
from registry.signing.signer import ANVIL_CHAIN_ID, Signer

Progress: TypeAlias = Callable[[str, int, int], None]

_RECEIPTS: Final = 20_000
_CALLS_OF_A_CHANNEL: Final = 50
_GIVEN: Final = 10
_RUNS: Final = 3
_GOALS: Final = {"receipts_per_s": 10_000}
_ORIGIN: Final = "bench.example/log"
_NODE: Final = Signer(b"\x11" * 32)
_MANIFEST: Final = b"\x02" * 32
_COST: Final = 128


def measure(*, quick: bool, progress: Progress) -> dict[str, Any]:
    """Return the figures: the fastest of three audits with all processors, and one with one."""
    count = _RECEIPTS // 10 if quick else _RECEIPTS
    with Devnet.start() as net:
        world = _World(net)
        log = world.log(count, progress)
        world.anchors.anchor(world.funder, log.signed(count // 2))
        world.anchors.anchor(world.funder, log.signed(count))
        with _served(log.pages()) as url, httpx.Client(base_url=url, timeout=60) as client:
            every = max(processors(), 2)
            runs = [_audit(world, log, client, every, progress) for _ in range(_RUNS)]
            alone = _audit(world, log, client, 1, progress)
    return {
        "receipts": count,
        "bytes_a_receipt": sum(map(len, log.entries)) // count,
        "processes": every,
        "receipts_per_s": round(count / min(runs)),
        "receipts_per_s_one_process": round(count / alone),
        "goals": _GOALS,
    }


def _audit(
    world: _World, log: _Log, client: httpx.Client, processes: int, progress: Progress
) -> float:
    """Return the seconds of one audit."""
    asked = Questions(given=log.receipts[:: len(log.receipts) // _GIVEN], processes=processes)
    begun = time.perf_counter()
    report = audit(
        world.target,
        LogReader(client),
        world.view,
        asked,
        progress=lambda done, total: progress("auditing", done, total),
    )
    seconds = time.perf_counter() - begun
    if not report.ok or [check.number for check in report.checks if not check.ran] != [8]:
        raise SystemExit(f"the audit of an honest log: {report.to_json()}")
    return seconds


class _World:
    """The chain: one model, attested."""

    def __init__(self, net: Devnet) -> None:
        self.funder = Signer.anvil(0, chain_id=ANVIL_CHAIN_ID)
        self.deployment: Deployment = deploy(net.chain, self.funder)
        self.anchors = AnchorContract(net.chain, self.deployment.audit_anchor)
        self.domain = receipt_domain(ANVIL_CHAIN_ID, self.deployment.audit_anchor)
        records = ModelRegistry(net.chain, self.deployment.model_registry)
        book = AttestationBook(net.chain, self.deployment.attestations)
        records.register(self.funder, Kind.MODEL, _MANIFEST, [])
        self.model_id = record_id(self.funder.address, _MANIFEST)
        until = int(time.time()) + 10**6
        book.attest(self.funder, self.model_id, "integrity", 10_000, until)
        self.block = net.chain.head()
        self.target = AuditTarget(
            _NODE.address,
            _ORIGIN,
            ANVIL_CHAIN_ID,
            self.deployment.audit_anchor,
            self.deployment.model_registry,
        )
        self.view = OnchainView(
            chain=net.chain,
            anchors=self.anchors,
            records=records,
            book=book,
            channel_state=lambda _: ChannelState(0, 0),
            used=lambda *_: False,
            from_block=self.deployment.from_block,
        )

    def log(self, count: int, progress: Progress) -> _Log:
        """Sign so many receipts, one after another."""
        made, prev = _Log(self.anchors, self.target), GENESIS
        for seq in range(count):
            made.receipts.append(issue(_NODE, self.domain, self._facts(seq), seq=seq, prev=prev))
            made.entries.append(made.receipts[-1].entry().encode())
            prev = merkle.leaf_hash(made.entries[-1])
            made.leaves.append(prev)
            if seq % 100 == 0:
                progress("signing receipts", seq, count)
        return made

    def _facts(self, seq: int) -> ReceiptFacts:
        payer, nth = divmod(seq, _CALLS_OF_A_CHANNEL)
        name = sha256(seq.to_bytes(8)).digest()
        payment = PaymentFacts(
            scheme="batch-settlement",
            network=f"eip155:{ANVIL_CHAIN_ID}",
            asset=self.deployment.audit_anchor,
            payer=self.funder.address,
            pay_to=self.funder.address,
            channel=sha256(payer.to_bytes(8)).digest(),
            nonce=ZERO_DIGEST,
            quote=188,
            charged=_COST,
            cumulative=(nth + 1) * _COST,
            price=PriceFacts(100, 2_000_000, 10_000_000),
            transaction=ZERO_DIGEST,
            x402_receipt=name,
        )
        return ReceiptFacts(
            id=f"rcpt_{seq:016d}",
            status="ok",
            served_at=int(time.time()),
            model=ModelFacts(
                name="smollm2-135m",
                chain=ANVIL_CHAIN_ID,
                registry=self.deployment.model_registry,
                model_id=self.model_id,
                manifest_digest=_MANIFEST,
                resident_digest=name,
                block=BlockFacts(self.block.number, self.block.hash),
            ),
            runtime=RuntimeFacts("weightproof", "0.1.0", "bfloat16", "cpu", 2),
            sampling=SamplingFacts(seq, "0.7", "0.95", 50, 8),
            tokens=TokenFacts(name, name, 4, 2),
            payment=payment,
            request=RequestFacts("/v1/chat/completions", name),
            response=ResponseFacts("stop", name),
        )


class _Log:
    """A log that lies in memory."""

    def __init__(self, anchors: AnchorContract, target: AuditTarget) -> None:
        self.receipts: list[SignedReceipt] = []
        self.entries: list[bytes] = []
        self.leaves: list[bytes] = []
        self._anchors, self._target = anchors, target

    def signed(self, size: int) -> SignedCheckpoint:
        """Return the node's checkpoint of the first `size` entries."""
        root = merkle.root(self.leaves[:size])
        return sign(Checkpoint(_ORIGIN, size, root), _NODE, self._anchors.domain)

    def pages(self) -> dict[str, bytes]:
        """Return all that the auditor will ask for, by path and query."""
        size, nodes = len(self.entries), merkle.nodes_of(self.leaves)
        target, (vkey, signature) = self._target, bind(_NODE, _ORIGIN, self._anchors.domain)
        whose = KeyedLogIdentity(
            _ORIGIN,
            target.node,
            target.chain_id,
            target.anchor,
            target.registry,
            size,
            vkey,
            signature,
        )
        pages = {"/v1/log": whose.encode(), "/v1/log/checkpoint": self.signed(size).note.encode()}
        for start in range(0, size, MAX_PAGE):
            end = min(size, start + MAX_PAGE)
            page = {"start": start, "entries": [data.decode() for data in self.entries[start:end]]}
            pages[f"/v1/log/entries?start={start}&end={end}"] = json.dumps(page).encode()
        proof = merkle.consistency_proof(size // 2, size, nodes)
        path = f"/v1/log/proof/consistency?old={size // 2}&new={size}"
        pages[path] = _proof(proof)
        for signed in self.receipts[:: size // _GIVEN]:
            seq = signed.receipt.seq
            path = f"/v1/log/proof/inclusion?seq={seq}&size={size}"
            pages[path] = _proof(merkle.inclusion_proof(seq, size, nodes))
        for signed in self.receipts[_CALLS_OF_A_CHANNEL - 1 :: _CALLS_OF_A_CHANNEL]:
            payment = signed.receipt.payment
            channel, cumulative = f"0x{payment.channel.hex()}", str(payment.cumulative)
            ledger = {"channelId": channel, "cumulative": cumulative, "signedMax": cumulative}
            ledger |= {"balance": "1000000", "totalClaimed": "0"}
            pages[f"/v1/channels/{channel}"] = json.dumps(ledger | {"size": size}).encode()
        return pages


def _proof(hashes: tuple[bytes, ...]) -> bytes:
    return json.dumps({"proof": ["0x" + item.hex() for item in hashes]}).encode()


@contextmanager
def _served(pages: dict[str, bytes]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(pages, theirs), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join()


def _serve(pages: dict[str, bytes], told: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = pages.get(self.path)
            status = b"404 Not Found" if body is None else b"200 OK"
            body = body or b""
            # In one piece, or the second waits for the first to be acknowledged.
            self.wfile.write(
                b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
            )

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.send(server.server_port)
    server.serve_forever()
