"""Embeddings and images, sold over the wire: refusals first, then paid by official clients."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from eth_account import Account
from transformers import AutoModelForImageClassification, ViTImageProcessorPil
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from inference.client import CLASSIFY, EMBEDDINGS
from inference.demo.models import prepare_minilm
from inference.payments.pricing import Price, charge
from inference.payments.pricing import Usage as Used
from registry.chain.dev_usd import ONE, mint
from registry.signing.signer import Signer
from tests.e2e.market import PRICE
from tests.e2e.shop import Shop, opened
from tests.inference import image_files, tiny_models
from tests.inference.image_files import picture, png, saved

CACHE = Path(__file__).parents[2] / ".cache" / "models"
MINILM = "minilm"
PETS = "pets"
REVIEWS = "reviews"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop")) as shop:
        folder = shop.config.parent
        minilm = Path(shutil.copytree(prepare_minilm(CACHE / "minilm"), folder / MINILM))
        shop.place(MINILM, shop.publish(minilm, "embed"))
        shop.place(PETS, shop.publish(tiny_models.vit(folder / PETS), "classify"))
        reviews = tiny_models.bert_classifier(folder / REVIEWS)
        shop.place(REVIEWS, shop.publish(reviews, "classify"))
        yield shop


def as_field(file: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def refused(shop: Shop, route: str, body: dict[str, Any]) -> tuple[int, str]:
    """Send a body without paying; return the status and the field that the refusal names."""
    with shop.http() as client:
        answer = client.post(route, json=body)
    return answer.status_code, answer.json()["error"]["param"]


# What is refused before anything is paid


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": ""}, "input"),
        ({"input": ["fine", " "]}, "input"),
        ({"input": "word " * 600}, "input"),
        ({"input": "x" * 200_000}, "input"),
        ({"input": [40_000]}, "input"),
        ({"input": "fine", "dimensions": 256}, "dimensions"),
        ({"input": "fine", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "fine", "prompt": "x"}, "prompt"),
    ],
)
def test_what_cannot_be_embedded_is_a_400_that_names_its_field(
    shop: Shop, body: dict[str, Any], field: str
) -> None:
    assert refused(shop, EMBEDDINGS, {"model": MINILM} | body) == (400, field)


@pytest.mark.parametrize(
    "file",
    [
        saved(picture())[:100],
        png(4000, 4000, bytes(13)),
        image_files.bomb(),
        saved(picture(), "GIF"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["truncated", "lies", "bomb", "GIF", "SVG"],
)
def test_a_hostile_image_is_a_400_that_names_its_field(shop: Shop, file: bytes) -> None:
    assert refused(shop, CLASSIFY, {"model": PETS, "image": as_field(file)}) == (400, "image")


def test_each_model_takes_its_own_kind_of_input_and_task(shop: Shop) -> None:
    image = as_field(saved(picture()))
    assert refused(shop, CLASSIFY, {"model": PETS, "input": "a cat"}) == (400, "input")
    assert refused(shop, CLASSIFY, {"model": PETS}) == (400, "image")
    assert refused(shop, CLASSIFY, {"model": REVIEWS, "image": image}) == (400, "image")
    assert refused(shop, CLASSIFY, {"model": REVIEWS}) == (400, "input")
    assert refused(shop, EMBEDDINGS, {"model": REVIEWS, "input": "x"})[0] == 404
    assert refused(shop, CLASSIFY, {"model": MINILM, "input": "x"})[0] == 404


def test_what_is_refused_is_not_written_down_and_what_is_unpaid_is_a_402(shop: Shop) -> None:
    before = len(shop.receipts())
    with shop.http() as client:
        answer = client.post(EMBEDDINGS, json={"model": MINILM, "input": "unpaid"})
    assert answer.status_code == 402
    assert "PAYMENT-REQUIRED" in answer.headers
    assert len(shop.receipts()) == before


# What is paid


def test_embeddings_are_paid_by_their_tokens_and_the_receipt_holds(shop: Shop) -> None:
    texts = ["That is a happy person", "That is a happy dog"]
    answer = shop.call({"model": MINILM, "input": texts}, EMBEDDINGS)
    receipt = answer.signed.receipt
    tokens = answer.body["usage"]["prompt_tokens"]
    assert (receipt.status, receipt.tokens.input, receipt.tokens.output) == ("ok", tokens, 0)
    assert answer.charged == charge(Price(**PRICE), Used(tokens, 0)) == receipt.payment.quote
    assert [item["index"] for item in answer.body["data"]] == [0, 1]
    first, second = (np.array(item["embedding"]) for item in answer.body["data"])
    assert np.linalg.norm(first) == pytest.approx(1.0)
    # As its authors' own library has it, to two digits.
    assert 0.5 < first @ second < 0.9


def test_a_text_and_its_tokens_have_one_vector(shop: Shop) -> None:
    engine: Any = shop.node.catalog.get(MINILM).engine
    (ids,) = engine.encode(["the same"])
    by_text = shop.call({"model": MINILM, "input": "the same"}, EMBEDDINGS)
    by_ids = shop.call({"model": MINILM, "input": list(ids)}, EMBEDDINGS)
    assert by_text.body["data"] == by_ids.body["data"]
    assert by_text.signed.receipt.tokens == by_ids.signed.receipt.tokens


def test_an_image_is_paid_by_its_patches_and_scored_like_the_reference(shop: Shop) -> None:
    body = {"model": PETS, "image": as_field(saved(picture(90, 70)))}
    answer = shop.call(body, CLASSIFY)
    assert answer.body["usage"]["prompt_tokens"] == answer.signed.receipt.tokens.input == 17
    assert answer.charged == charge(Price(**PRICE), Used(17, 0))
    folder = shop.config.parent / PETS
    inputs = ViTImageProcessorPil.from_pretrained(folder)(picture(90, 70), return_tensors="pt")
    with torch.inference_mode():
        logits = AutoModelForImageClassification.from_pretrained(folder)(**inputs).logits[0]
    (scored,) = answer.body["data"]
    expected = dict(zip(("cat", "dog", "fish"), logits.softmax(dim=-1).tolist(), strict=True))
    assert scored["scores"] == pytest.approx(expected, abs=1e-5)
    assert scored["label"] == max(expected, key=lambda name: expected[name])


def test_an_image_is_paid_by_exact_too(shop: Shop) -> None:
    body = {"model": PETS, "image": base64.b64encode(saved(picture(), "WEBP")).decode()}
    answer = shop.call(body, CLASSIFY, scheme="exact")
    assert answer.signed.receipt.payment.charged == answer.charged > 0


def test_a_vector_that_is_no_number_is_not_charged_and_others_are_served(shop: Shop) -> None:
    entry = shop.node.catalog.get(REVIEWS)
    engine: Any = entry.engine
    (spoilt,) = engine.encode(["~"])
    row = entry.loaded.module.bert.embeddings.word_embeddings.weight.detach()[spoilt[0]]
    kept = row.clone()
    assert shop.call({"model": REVIEWS, "input": "good"}, CLASSIFY).charged > 0
    # The patrol would stop the model: it is asked before its next round.
    row.fill_(float("nan"))
    try:
        with pytest.raises(Exception, match="not numbers"):
            shop.call({"model": REVIEWS, "input": "~"}, CLASSIFY)
    finally:
        row.copy_(kept)
    receipt = shop.receipts()[-1]
    assert (receipt["status"], receipt["payment"]["charged"]) == ("failed", "0")
    assert shop.call({"model": REVIEWS, "input": "good"}, CLASSIFY).charged > 0


# By the official SDK


@pytest.fixture
def wallet(shop: Shop) -> Signer:
    """A fresh wallet with ten dollars."""
    signer = Signer.random()
    token = shop.workspace.config.contracts.dev_usd or ""
    deployer = shop.workspace.signer("deployer")
    mint(shop.workspace.chain, deployer, token, signer.address, 10 * ONE)
    return signer


def sdk(shop: Shop, wallet: Signer) -> openai.AsyncOpenAI:
    signer = EthAccountSignerWithRPC(Account.from_key(wallet.secret()), shop.devnet.rpc_url)
    client = x402Client().register("eip155:31337", BatchSettlementEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": True})
    http = httpx.AsyncClient(transport=x402_httpx_transport(client), timeout=60)
    return openai.AsyncOpenAI(base_url=shop.url + "/v1", api_key="not used", http_client=http)


def test_the_openai_sdk_embeds_in_both_encodings(shop: Shop, wallet: Signer) -> None:
    async def go() -> tuple[Any, Any]:
        async with sdk(shop, wallet) as client:
            # It asks for base64 unless told otherwise, and decodes it itself.
            packed = await client.embeddings.create(model=MINILM, input=["one", "two words"])
            plain = await client.embeddings.create(
                model=MINILM, input=["one", "two words"], encoding_format="float", dimensions=384
            )
            return packed, plain

    packed, plain = asyncio.run(go())
    assert packed.object == plain.object == "list"
    assert packed.model == MINILM
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 3 + 4
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == 384
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_the_openai_sdk_tells_its_caller_which_field_is_wrong(shop: Shop, wallet: Signer) -> None:
    async def go() -> None:
        async with sdk(shop, wallet) as client:
            await client.embeddings.create(model=MINILM, input="x", dimensions=3)

    with pytest.raises(openai.BadRequestError) as caught:
        asyncio.run(go())
    assert caught.value.param == "dimensions"
