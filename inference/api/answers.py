"""The answers to one request: made together, told of in turns.

Token k of each answer comes before token k + 1 of any. So how many tokens were delivered says
which ones: an auditor who replays a stream that was left midway stops at the same token.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from inference.engine.generator import Generator
from inference.engine.sequence import CANCELLED, LENGTH, STOP, Delta, GenerationRequest


class Answers:
    """The answers to some requests, as far as they were told of."""

    def __init__(self, engine: Generator, requests: Sequence[GenerationRequest]) -> None:
        self._engine = engine
        self._requests = tuple(requests)
        self._tokens: list[list[int]] = [[] for _ in self._requests]
        self._margins: list[list[float]] = [[] for _ in self._requests]
        self._compute_s = 0.0
        self._reasons: list[str] = [CANCELLED for _ in self._requests]

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Return the tokens told of so far, answer after answer."""
        return tuple(token for tokens in self._tokens for token in tokens)

    @property
    def margins(self) -> tuple[float, ...]:
        """Return by how much each token told of won, in logits, answer after answer."""
        return tuple(margin for margins in self._margins for margin in margins)

    @property
    def output_tokens(self) -> int:
        """Return how many tokens were told of so far."""
        return sum(len(tokens) for tokens in self._tokens)

    @property
    def compute_ms(self) -> int:
        """Return for how long the engine has been at the answers, the longest of them."""
        return int(self._compute_s * 1000)

    @property
    def finish(self) -> str:
        """Return why all of it ended: cancelled or for its length if one answer was."""
        return next((why for why in (CANCELLED, LENGTH) if why in self._reasons), STOP)

    async def told(self) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield the number of an answer and its next token, in turns. Must be closed.

        Raises what the engine raises for any of the requests; the others are given up then.
        """
        ids: list[str] = []
        streams: dict[int, AsyncGenerator[Delta, None]] = {}
        try:
            for request in self._requests:
                ids.append(self._engine.submit(request))
            for number, id in enumerate(ids):
                streams[number] = _singly(self._engine.stream(id))
            while streams:
                for number in sorted(streams):
                    delta = await anext(streams[number], None)
                    if delta is None or delta.finish_reason is not None:
                        await streams.pop(number).aclose()
                    if delta is not None:
                        self._tokens[number].extend(delta.token_ids)
                        self._margins[number].extend(choice.margin for choice in delta.choices)
                        self._compute_s = max(self._compute_s, delta.compute_s)
                        self._reasons[number] = delta.finish_reason or CANCELLED
                        yield number, delta
        finally:
            for id in ids:
                self._engine.cancel(id)
            for stream in streams.values():
                await stream.aclose()


async def _singly(deltas: AsyncIterator[Delta]) -> AsyncGenerator[Delta, None]:
    """Yield deltas of one token each; the text of a step that made several comes with its last."""
    async for delta in deltas:
        last = len(delta.token_ids) - 1
        for place in range(last):
            yield Delta(
                "",
                delta.token_ids[place : place + 1],
                None,
                delta.choices[place : place + 1],
                delta.compute_s,
            )
        yield Delta(
            delta.text,
            delta.token_ids[max(last, 0) :],
            delta.finish_reason,
            delta.choices[max(last, 0) :],
            delta.compute_s,
        )
