"""Body of `POST /v1/completions`: texts to continue as they are, without a template."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from inference.api.sampled_body import SampledBody
from inference.errors import RequestError

# OpenAI's default and limit of this older route.
DEFAULT_MAX_TOKENS: Final = 16
MAX_LOGPROBS: Final = 5
MAX_PROMPTS: Final = 16
# Answers of one call, over all its prompts.
MAX_ANSWERS: Final = 32


class CompletionRequest(SampledBody):
    """Body of `POST /v1/completions`."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _check_answers(self) -> CompletionRequest:
        if len(self.prompts()) * self.choices > MAX_ANSWERS:
            raise RequestError(
                f"n: {self.choices} answers to each of {len(self.prompts())} prompts are more than "
                f"{MAX_ANSWERS}",
                param="n",
            )
        return self

    def prompts(self) -> tuple[str, ...]:
        """Return the texts to continue."""
        return (self.prompt,) if isinstance(self.prompt, str) else tuple(self.prompt)

    def limit(self) -> int:
        """Return the most tokens one answer may have."""
        return self.max_tokens or DEFAULT_MAX_TOKENS

    def listed(self) -> int | None:
        """Return how many of the likeliest tokens are told of; None without log-probabilities."""
        return self.logprobs
