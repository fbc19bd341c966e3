"""One call as a node might have served it, for tests that need a receipt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inference.receipt_format import (
    BlockFacts,
    ModelFacts,
    PaymentFacts,
    PlannedPaymentFacts,
    PlannedReceiptFacts,
    PriceFacts,
    ReceiptFacts,
    RequestFacts,
    ResponseFacts,
    RuntimeFacts,
    SamplingFacts,
    TokenFacts,
)
from inference.receipt_plan import NO_ALLOWANCE, NO_TIME, DiscountFacts, PlanFacts
from inference.receipts import Salts, receipt_domain, salted_hash, token_digest
from registry.signing.signer import Signer

NODE = Signer(b"\x11" * 32)
STRANGER = Signer(b"\x22" * 32)
PAYER = Signer(b"\x33" * 32)
ANCHOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
REGISTRY = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
ASSET = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
RECEIVER = "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9"
CHAIN_ID = 31337
DOMAIN = receipt_domain(CHAIN_ID, ANCHOR)
REQUEST = b'{"messages":[{"content":"What is the capital of France?","role":"user"}]}'
RESPONSE = b'{"choices":[{"message":{"content":"Paris."}}]}'
SALTS = Salts(b"\x0a" * 32, b"\x0b" * 32)
PROMPT_IDS = (1, 504, 2, 253)
OUTPUT_IDS = (7042, 30)
CHANNEL = b"\xc1" * 32

# 100 a call, 2 a token in, 10 a token out: 100 + 4·2 + 2·10 = 128, and 188 for eight tokens out.
PRICE = PriceFacts(100, 2_000_000, 10_000_000)
COST = 128
QUOTE = 188


def call(**payment: Any) -> ReceiptFacts:
    """Return the facts of a served call; keywords change its payment."""
    return ReceiptFacts(
        id="rcpt_0123456789abcdef",
        status="ok",
        served_at=1_764_000_000,
        model=ModelFacts(
            name="smollm2",
            chain=CHAIN_ID,
            registry=REGISTRY,
            model_id=b"\x01" * 32,
            manifest_digest=b"\x02" * 32,
            resident_digest=b"\x03" * 32,
            block=BlockFacts(12, b"\x04" * 32),
        ),
        runtime=RuntimeFacts("weightproof", "0.1.0", "bfloat16", "cpu", 1),
        sampling=SamplingFacts(seed=7, temperature="0", top_p="1", top_k=0, max_tokens=8),
        tokens=TokenFacts(
            input_digest=token_digest(PROMPT_IDS),
            output_digest=token_digest(OUTPUT_IDS),
            input=len(PROMPT_IDS),
            output=len(OUTPUT_IDS),
        ),
        payment=replace(PAYMENT, **payment),
        request=RequestFacts("/v1/chat/completions", salted_hash(SALTS.request, REQUEST)),
        response=ResponseFacts("stop", salted_hash(SALTS.response, RESPONSE)),
    )


PAYMENT = PaymentFacts(
    scheme="batch-settlement",
    network=f"eip155:{CHAIN_ID}",
    asset=ASSET,
    payer=PAYER.address,
    pay_to=RECEIVER,
    channel=CHANNEL,
    nonce=bytes(32),
    quote=QUOTE,
    charged=COST,
    cumulative=COST,
    price=PRICE,
    transaction=bytes(32),
    x402_receipt=b"\x05" * 32,
)


def planned(plan: PlanFacts, **payment: Any) -> ReceiptFacts:
    """Return the facts of a call that a plan had a part in; keywords change its payment."""
    facts = call(**payment)
    paid = PlannedPaymentFacts(
        **{name: getattr(facts.payment, name) for name in PaymentFacts.FIELDS}, plan=plan
    )
    return PlannedReceiptFacts(
        **({name: getattr(facts, name) for name in ReceiptFacts.FIELDS} | {"payment": paid})
    )


# What the sample call costs with a contract of 10 %: 128 less 12.8, and the fraction of it.
PLAN = PlanFacts(
    offer=b"\x06" * 32,
    listed=COST,
    time=NO_TIME,
    discount=DiscountFacts("contract", 100, 0, 0, 0, 0),
    allowance=NO_ALLOWANCE,
)
DISCOUNTED = 115
