"""The answers that a receipt's tokens claim to be: where each begins and ends.

Where an answer ends is no matter of rounding. Its last token is an end token, or completes a stop
string, or is as many as were asked for; what goes on behind such a token, or stops before, was not
made by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.api.plan import TextPlan
from inference.engine.prompter import Prompter
from inference.engine.sequence import GenerationRequest
from inference.errors import RequestError
from inference.loader import LoadedModel


@dataclass(frozen=True)
class ClaimedAnswers:
    """The tokens `claimed` as the answers to a plan, one after another."""

    loaded: LoadedModel
    plan: TextPlan
    claimed: tuple[int, ...]

    @property
    def pairs(self) -> tuple[tuple[GenerationRequest, tuple[int, ...]], ...]:
        """Return each answer with what was asked for it; all but the last have ended."""
        found: list[tuple[GenerationRequest, tuple[int, ...]]] = []
        start = 0
        for request in self.plan.requests(""):
            end = start + self._length(request, self.claimed[start:])
            found.append((request, self.claimed[start:end]))
            start = end
        return tuple(found)

    @property
    def texts(self) -> tuple[str, ...]:
        """Return what each answer says, without end tokens and stop strings."""
        return tuple(self._text(request, ids) for request, ids in self.pairs)

    def fault(self, *, partial: bool) -> str:
        """Say where they are no whole answers, or nothing; a `partial` one may stop anywhere.

        Raises `RequestError` for several partial answers, whose tokens cannot be told apart.
        """
        if any(token >= self.loaded.vocabulary for token in self.claimed):
            return "it has a token that the model does not have"
        if partial and self.plan.answers > 1:
            raise RequestError("of several answers that were left midway none can be weighed")
        pairs = self.pairs
        if sum(len(ids) for _, ids in pairs) < len(self.claimed):
            return "it goes on behind its end"
        if not partial and not all(self._has_ended(request, ids) for request, ids in pairs):
            return "it stops where the model goes on"
        return ""

    def _text(self, request: GenerationRequest, ids: Sequence[int]) -> str:
        text = Prompter(self.loaded).detokenizer(request)
        pieces = [text.push(token) for token in ids if token not in self.loaded.end_ids]
        return "".join([*pieces, text.finish()])

    def _has_ended(self, request: GenerationRequest, ids: Sequence[int]) -> bool:
        return self._end(request, ids) is not None

    def _length(self, request: GenerationRequest, ids: Sequence[int]) -> int:
        end = self._end(request, ids)
        return len(ids) if end is None else end

    def _end(self, request: GenerationRequest, ids: Sequence[int]) -> int | None:
        """Return how many tokens an answer has that begins with these; None if it goes on."""
        text = Prompter(self.loaded).detokenizer(request)
        for count, token in enumerate(ids, start=1):
            if token in self.loaded.end_ids:
                return count
            text.push(token)
            if text.stopped or count == request.sampling.max_tokens:
                return count
        return None
