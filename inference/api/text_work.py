"""What chat answers and completions have in common: a `Work` of one plan."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from inference.api.answers import Answers
from inference.api.logprobs import TokenTexts
from inference.api.plan import TextPlan
from inference.api.sampled_body import SampledBody
from inference.api.sse import DONE, event
from inference.catalog import CatalogEntry
from inference.engine.generator import Generator
from inference.engine.sampling import Sampling
from inference.engine.sequence import Delta
from inference.errors import NodeError, RequestError
from inference.payments.pricing import Usage


class TextWork:
    """The answers to one request: a `Work`. Not streamed, it yields all of them as one piece.

    `payer` is for the engine, which is fair between payers; it is known when the call is paid.
    """

    # The object's name whole and in pieces, the prefix of its id, the field of its input.
    kind: str
    chunk_kind: str
    prefix: str
    field: str

    def __init__(
        self, entry: CatalogEntry, engine: Generator, ask: SampledBody, plan: TextPlan
    ) -> None:
        """Take a plan. Raises `RequestError` for one that the model's engine cannot carry out."""
        if plan.exact:
            engine.check_exact()
        for prompt in plan.prompts:
            self._check_length(engine, len(prompt), ask)
        self._entry = entry
        self._ask = ask
        self._plan = plan
        self._engine = engine
        self._answers = Answers(engine, plan.requests(""))
        self._id = self.prefix + secrets.token_hex(12)
        self._created = int(time.time())
        self._texts = None if ask.listed() is None else TokenTexts(entry.loaded)
        self.payer = ""
        self.exact = plan.exact
        self.streams = bool(ask.stream)
        self.input_ids = plan.input_ids
        self.input_tokens = len(self.input_ids)
        self.max_output_tokens = plan.total.max_tokens

    @property
    def usage(self) -> Usage:
        """Return tokens read, each prompt once, tokens delivered, and how long that took."""
        answers = self._answers
        return Usage(self.input_tokens, answers.output_tokens, answers.compute_ms)

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Return the tokens delivered so far, answer after answer."""
        return self._answers.output_ids

    @property
    def sampling(self) -> Sampling:
        """Return what a replay needs; its `max_tokens` is that of all answers together."""
        return self._plan.total

    @property
    def finish(self) -> str:
        """Return why the answers ended; `cancelled` until the model itself ended them all."""
        return self._answers.finish

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the answers, or their chunks as they are made."""
        self._answers = Answers(self._engine, self._plan.requests(self.payer))
        told = self._answers.told()
        try:
            if self.streams:
                async for piece in self._chunks(told):
                    yield piece
            else:
                yield await self._whole(told)
        finally:
            await told.aclose()

    async def _whole(self, told: AsyncGenerator[tuple[int, Delta], None]) -> bytes:
        raise NotImplementedError

    def _chunks(self, told: AsyncGenerator[tuple[int, Delta], None]) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError

    def failing(self, failure: NodeError) -> bytes:
        """Return the error event that OpenAI's clients raise from."""
        return event({"error": {"message": failure.message, "code": failure.code}})

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        """Return a chunk without choices that carries the receipt, and the end mark."""
        return event({**self._object(self.chunk_kind, []), "weightproof": bundle}) + DONE

    def _chunk(self, choice: Mapping[str, Any]) -> bytes:
        # Where the usage comes at the end, OpenAI's other chunks say that it is not known yet.
        more = {"usage": None} if self._ask.include_usage else {}
        return event(self._object(self.chunk_kind, [choice], **more))

    def _usage_chunk(self) -> bytes:
        return event(self._object(self.chunk_kind, [], usage=self._usage()))

    def _object(self, kind: str, choices: list[Any], **more: object) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._entry.name,
            "choices": choices,
            **more,
        }

    def _usage(self) -> dict[str, int]:
        used = self.usage
        return {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": used.output_tokens,
            "total_tokens": used.input_tokens + used.output_tokens,
        }

    def _check_length(self, engine: Generator, tokens: int, ask: SampledBody) -> None:
        try:
            engine.check_length(tokens, ask.limit())
        except RequestError as error:
            # The engine does not know by which names a request calls its parts.
            names = {"messages": self.field, "max_tokens": ask.limit_field}
            field = names.get(error.param, error.param)
            raise RequestError(f"{field}: {error.message}", param=field, hint=error.hint) from error
