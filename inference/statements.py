"""What the node signs about a call: our receipt, and the standard x402 receipt beside it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from inference import offer_receipt
from inference.audit.document import FormatError
from inference.audit.log import NextPosition
from inference.catalog import CatalogEntry
from inference.engine.facts import EngineFacts
from inference.engine.generator import Generator
from inference.errors import RequestError
from inference.offer_receipt import PaymentReceipt
from inference.payments.pricing import Price
from inference.payments.secured import Booked
from inference.receipt_format import (
    BlockFacts,
    ModelFacts,
    PaymentFacts,
    PlannedPaymentFacts,
    PlannedReceipt,
    PriceFacts,
    Receipt,
    RequestFacts,
    ResponseFacts,
    RuntimeFacts,
    SamplingFacts,
    TokenFacts,
)
from inference.receipt_plan import PlanFacts
from inference.receipts import Salts, SignedReceipt, salted_hash, sign, token_digest
from inference.work import Work, is_exact, sampling_facts
from registry.chain.block import Block
from registry.signing.canonical import encode
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

_ZERO: Final = bytes(32)
SERVED: Final = ("ok", "partial")
_NO_SAMPLING: Final = SamplingFacts(seed=0, temperature="0", top_p="1", top_k=0, max_tokens=0)


@dataclass(frozen=True)
class Outcome:
    """How a call ended, and the name of the receipt that says so.

    `served_at` is in unix seconds, `response_hash` 32 salted bytes,
    `block` is the newest one at which the model was found to stand.
    """

    receipt_id: str
    status: str
    served_at: int
    url: str
    path: str
    request: bytes
    response_hash: bytes
    salts: Salts
    block: Block


def new_receipt_id() -> str:
    """Return a name that no other receipt has."""
    return "rcpt_" + secrets.token_urlsafe(18)


@dataclass(frozen=True)
class Statement:
    """What was signed: our receipt and, for a served call, the extensions for x402 clients.

    Extensions are JSON texts, by name.
    """

    receipt: SignedReceipt
    extensions: Mapping[str, str]


@dataclass(frozen=True)
class Statements:
    """The node's voice: signs with its key, for receipts of one chain and one log."""

    signer: Signer
    domain: Domain

    def check(self, entry: CatalogEntry, work: Work) -> None:
        """Raise `RequestError` for what no receipt could state: asked before anything is paid."""
        try:
            model_facts(entry, entry.verified.block)
            runtime_facts(entry, work)
            _sampling(work)
        except FormatError as error:
            raise RequestError(f"no receipt can state this: {error.message}") from error

    def about(
        self,
        entry: CatalogEntry,
        work: Work,
        price: Price,
        outcome: Outcome,
        booked: Booked,
        at: NextPosition,
        plan: PlanFacts | None = None,
    ) -> Statement:
        """Return the signed statements about a call that was booked, for log position `at`.

        `plan` says how its charge came about, where that is not its list price.
        """
        standard, digest = self._standard(outcome, booked)
        payment = _payment(price, booked, digest)
        kind: type[Receipt] = Receipt
        if plan is not None:
            kind = PlannedReceipt
            payment = PlannedPaymentFacts(
                **{name: getattr(payment, name) for name in PaymentFacts.FIELDS}, plan=plan
            )
        receipt = kind(
            id=outcome.receipt_id,
            status=outcome.status,
            served_at=outcome.served_at,
            model=model_facts(entry, outcome.block),
            runtime=runtime_facts(entry, work),
            sampling=_sampling(work),
            tokens=TokenFacts(
                input_digest=token_digest(work.input_ids),
                output_digest=token_digest(work.output_ids),
                input=work.input_tokens,
                output=len(work.output_ids),
            ),
            payment=payment,
            request=RequestFacts(outcome.path, salted_hash(outcome.salts.request, outcome.request)),
            response=ResponseFacts(work.finish, outcome.response_hash),
            seq=at.seq,
            prev=at.prev,
            node=self.signer.address,
        )
        signed = sign(self.signer, self.domain, receipt, outcome.salts)
        return Statement(signed, {"weightproof": signed.bundle_text(), **standard})

    def _standard(self, outcome: Outcome, booked: Booked) -> tuple[dict[str, str], bytes]:
        """Return the x402 receipt as an extension and its digest; none for what was not served."""
        if outcome.status not in SERVED:
            return {}, _ZERO
        transaction = "0x" + booked.transaction.hex() if any(booked.transaction) else ""
        text, digest = _x402_receipt(
            self.signer,
            booked.network,
            outcome.url,
            booked.payer,
            outcome.served_at,
            transaction,
        )
        return {"offer-receipt": text}, digest


# A payer's calls of one second on a channel have the same one: it names neither call nor amount.
@lru_cache(maxsize=1024)
def _x402_receipt(
    signer: Signer, network: str, url: str, payer: str, issued_at: int, transaction: str
) -> tuple[str, bytes]:
    """Return the extension with a signed x402 receipt as JSON text, and the receipt's digest."""
    statement = PaymentReceipt(network, url, payer, issued_at, transaction)
    signed = offer_receipt.sign(signer, statement)
    return encode({"info": {"receipt": signed}}).decode(), statement.digest()


def model_facts(entry: CatalogEntry, block: Block) -> ModelFacts:
    """Return which model an entry is, found to stand at `block`."""
    verified = entry.verified
    return _model_facts(
        entry.name,
        verified.chain_id,
        verified.registry_address,
        verified.model_id,
        verified.manifest_digest,
        entry.loaded.resident.digest,
        block.number,
        block.hash,
    )


# The same for all calls between two blocks. By values: an entry kept here would keep its tensors.
@lru_cache(maxsize=64)
def _model_facts(
    name: str,
    chain: int,
    registry: str,
    model_id: bytes,
    manifest_digest: bytes,
    resident_digest: bytes,
    number: int,
    block_hash: bytes,
) -> ModelFacts:
    block = BlockFacts(number, block_hash)
    return ModelFacts(name, chain, registry, model_id, manifest_digest, resident_digest, block)


def runtime_facts(entry: CatalogEntry, work: Work | None = None) -> RuntimeFacts:
    """Return what computes with an entry, or what computed a piece of work."""
    engine = entry.engine
    # By task: asking whether an engine has a protocol's methods takes longer than signing.
    if entry.task == "chat" and isinstance(engine, Generator):
        return runtime_of(engine.facts_for(exact=is_exact(work)))
    return runtime_of(engine.facts)


@lru_cache(maxsize=64)
def runtime_of(facts: EngineFacts) -> RuntimeFacts:
    """Return an engine's facts as a receipt states them."""
    return RuntimeFacts(
        engine=facts.engine,
        version=facts.version,
        dtype=facts.dtype,
        device=facts.device,
        threads=facts.threads,
    )


def _sampling(work: Work) -> SamplingFacts:
    sampling = work.sampling
    return _NO_SAMPLING if sampling is None else sampling_facts(sampling)


@lru_cache(maxsize=64)
def _price(price: Price) -> PriceFacts:
    return PriceFacts(price.per_call, price.input_per_million, price.output_per_million)


def _payment(price: Price, booked: Booked, x402_receipt: bytes) -> PaymentFacts:
    return PaymentFacts(
        scheme=booked.scheme,
        network=booked.network,
        asset=booked.asset,
        payer=booked.payer,
        pay_to=booked.pay_to,
        channel=booked.channel,
        nonce=booked.nonce,
        quote=booked.quote,
        charged=booked.charged,
        cumulative=booked.cumulative,
        price=_price(price),
        transaction=booked.transaction,
        x402_receipt=x402_receipt,
    )
