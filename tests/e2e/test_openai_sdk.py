"""The text routes with OpenAI's own client, paid over the wire, and audited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.audit_command import run_audit
from inference.client import CHAT as CHAT_ROUTE
from inference.client import COMPLETIONS, PaidAnswer
from inference.config import load
from inference.office import Office
from inference.receipt_format import PriceFacts
from inference.receipts import SignedReceipt, price_of
from inference.shown import Shown
from registry.terminal import Terminal
from tests.e2e.market import (
    CHAT,
    CLASSIFIER,
    COMPLETIONS_PATH,
    EXACT_PRICE,
    PRICE,
    Market,
    ask,
    header,
    opened,
)
from tests.inference import tiny_models
from tests.inference.api.openai_shapes import strict

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
HOW = {"model": CHAT, "max_tokens": 12, "seed": 7}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened(tmp_path_factory.mktemp("market"), template=tiny_models.TOOL_TEMPLATE) as market:
        yield market


@asynccontextmanager
async def client(market: Market) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, whose HTTP client pays."""
    async with market.payer() as wallet:
        yield openai.AsyncOpenAI(
            base_url=f"{market.node.url}/v1",
            api_key="not used",
            http_client=wallet._http,
            max_retries=0,
        )


def asked(market: Market, question: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        async with client(market) as api:
            return await question(api)

    return asyncio.run(go())


def chat(market: Market, **more: Any) -> tuple[ChatCompletion, SignedReceipt]:
    """Return an answer that was read strictly, and its receipt."""

    async def question(api: openai.AsyncOpenAI) -> Any:
        body = {**HOW, "messages": HELLO, **more}
        extra = {name: body.pop(name) for name in ("top_k", "determinism") if name in body}
        return await api.chat.completions.with_raw_response.create(**body, extra_body=extra)

    raw = asked(market, question)
    receipt = header(raw.http_response, "PAYMENT-RESPONSE")["extensions"]["weightproof"]
    return strict(ChatCompletion, json.loads(raw.content)), SignedReceipt.from_json(receipt)


def streamed(market: Market, **more: Any) -> list[ChatCompletionChunk]:
    async def question(api: openai.AsyncOpenAI) -> list[ChatCompletionChunk]:
        stream = await api.chat.completions.create(**HOW, messages=HELLO, stream=True, **more)
        return [strict(ChatCompletionChunk, chunk.to_dict()) async for chunk in stream]

    heard: list[ChatCompletionChunk] = asked(market, question)
    return heard


def call(market: Market, path: str, body: dict[str, Any]) -> PaidAnswer:
    async def go() -> PaidAnswer:
        async with market.payer() as payer:
            return await payer.call(path, body)

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"temperature": -1}, "temperature"),
        ({"n": 100}, "n"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, "messages"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "type": "nothing"}}}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_completion_tokens": 10**7}, "max_completion_tokens"),
    ],
)  # fmt: skip
def test_the_client_raises_from_a_refusal_that_names_the_field(
    market: Market, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(market, **more)
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model": "tiny-llama", "prompt": ""}', "prompt"),
        (b'{"model": "tiny-llama", "prompt": "x", "top_p": NaN}', "top_p"),
        (b'{"model": "tiny-llama", "prompt": "x", "echo": true}', "echo"),
        (b'{"model": "tiny-llama", "prompt": "\\ud800"}', "prompt"),
        (b'{"model": "tiny-llama", "prompt": "\xff"}', None),
    ],
)
def test_a_wrong_completion_is_a_400_that_names_the_field(
    market: Market, body: bytes, field: str | None
) -> None:
    with market.http() as http:
        answer = http.post(COMPLETIONS_PATH, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_a_model_that_makes_no_text_is_not_found_there(market: Market) -> None:
    with pytest.raises(openai.NotFoundError):
        chat(market, model=CLASSIFIER)


def test_models_are_listed_and_found(market: Market) -> None:
    async def question(api: openai.AsyncOpenAI) -> tuple[list[Model], Model]:
        return [model async for model in api.models.list()], await api.models.retrieve(CHAT)

    listed, found = asked(market, question)
    assert {model.id for model in listed} == {CHAT, CLASSIFIER}
    assert strict(Model, found.to_dict()).id == CHAT
    assert found.model_extra["weightproof"]["exact_price"] == EXACT_PRICE


def test_answers_are_paid_together_and_the_receipt_counts_them_all(market: Market) -> None:
    answer, signed = chat(market, n=3, logprobs=True, top_logprobs=2, top_k=50)
    receipt = signed.receipt
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.logprobs and choice.logprobs.content for choice in answer.choices)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == receipt.tokens.output
    assert receipt.sampling.max_tokens == 36
    assert receipt.payment.charged == price_of(
        PriceFacts(**PRICE), receipt.tokens.input, receipt.tokens.output
    )


def test_exact_answers_are_paid_at_their_own_price(market: Market) -> None:
    answer, signed = chat(market, determinism="exact")
    receipt, price = signed.receipt, PriceFacts(**EXACT_PRICE)
    assert receipt.payment.price == price
    assert receipt.payment.charged == price_of(price, receipt.tokens.input, receipt.tokens.output)
    plain, other = chat(market)
    assert other.receipt.payment.price == PriceFacts(**PRICE)
    assert plain.choices[0].message == answer.choices[0].message


def test_a_stream_tells_roles_texts_reasons_usage_and_its_receipt(market: Market) -> None:
    heard = streamed(market, n=2, logprobs=True, stream_options={"include_usage": True})
    whole, _ = chat(market, n=2)
    for choice in whole.choices:
        mine = [c for chunk in heard for c in chunk.choices if c.index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in mine) == choice.message.content
        assert mine[-1].finish_reason == choice.finish_reason
    assert heard[-2].usage == whole.usage
    assert heard[-2].choices == heard[-1].choices == []
    signed = SignedReceipt.from_json((heard[-1].model_extra or {})["weightproof"])
    assert whole.usage is not None
    assert signed.receipt.tokens.output == whole.usage.completion_tokens


def test_json_of_a_schema_parses(market: Market) -> None:
    answer, _ = chat(market, response_format=FORMAT, max_tokens=32, temperature=2)
    assert isinstance(json.loads(answer.choices[0].message.content or "")["ok"], bool)


class Verdict(pydantic.BaseModel):
    good: bool
    kind: Literal["book", "film"]


def test_the_client_s_own_models_come_back_filled(market: Market) -> None:
    async def question(api: openai.AsyncOpenAI) -> Any:
        tool = openai.pydantic_function_tool(Verdict)
        body = {**HOW, "messages": HELLO, "max_tokens": 96}
        answer = await api.chat.completions.parse(**body, response_format=Verdict)
        called = await api.chat.completions.parse(**body, tools=[tool], tool_choice="required")
        return answer.choices[0].message, called.choices[0].message

    answer, called = asked(market, question)
    assert isinstance(answer.parsed, Verdict)
    assert isinstance(called.tool_calls[0].function.parsed_arguments, Verdict)


def test_a_tool_is_called_and_its_result_goes_back(market: Market) -> None:
    how = {"tools": [LOOK], "tool_choice": "required", "max_tokens": 96}
    first, _ = chat(market, **how)
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    (made,) = choice.message.tool_calls or []
    assert isinstance(json.loads(made.function.arguments)["ok"], bool)
    sent = choice.message.to_dict()
    result = {"role": "tool", "tool_call_id": made.id, "content": "seen"}
    second, _ = chat(market, messages=[*HELLO, sent, result], tools=[LOOK])
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_completions_come_whole_and_streamed(market: Market) -> None:
    body = {**HOW, "prompt": ["Once", "Twice"], "n": 2, "logprobs": 2}

    async def question(api: openai.AsyncOpenAI) -> tuple[Completion, list[Completion]]:
        whole = await api.completions.create(**body)
        stream = await api.completions.create(**body, stream=True)
        return whole, [chunk async for chunk in stream]

    whole, heard = asked(market, question)
    strict(Completion, whole.to_dict())
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    for choice in whole.choices:
        mine = [c for chunk in heard for c in chunk.choices if c.index == choice.index]
        assert "".join(c.text for c in mine) == choice.text


def test_the_wallets_client_pays_for_completions_and_reads_their_text(market: Market) -> None:
    body = {**HOW, "prompt": "Once"}
    heard: list[str] = []

    async def go() -> PaidAnswer:
        async with market.payer() as payer:
            return await payer.stream(COMPLETIONS, body, heard.append)

    streamed = asyncio.run(go())
    assert streamed.text == "".join(heard) == call(market, COMPLETIONS, body).text


def test_an_auditor_replays_every_kind_of_text_call(market: Market) -> None:
    penalties = {"frequency_penalty": 1.5, "presence_penalty": -0.5, "stop": ["\n", "e"]}
    bodies = [
        (CHAT_ROUTE, ask("several") | {"n": 3, "temperature": 1}),
        (CHAT_ROUTE, ask("penalties", temperature=1, **penalties)),
        (CHAT_ROUTE, ask("json", response_format=FORMAT, n=2, temperature=1.5)),
        (CHAT_ROUTE, ask("tool", tools=[LOOK], tool_choice="required", max_tokens=64)),
        (COMPLETIONS, {**HOW, "prompt": ["Once", "Twice"], "n": 2, "determinism": "exact"}),
    ]
    paid = [call(market, path, body) for path, body in bodies]
    office = Office.open(load(market.config))
    try:
        office.settlement.tick()
        office.settlement.anchor()
    finally:
        office.close()
    report = run_audit(
        load(market.config),
        market.node.url,
        Terminal(as_json=True),
        address=market.node.address,
        shown=[Shown(answer.signed, answer.request) for answer in paid],
    )
    assert report.ok, report.to_json()
    (replayed,) = [check for check in report.checks if check.name == "replay"]
    assert replayed.detail == "5 calls gave the same tokens again"
