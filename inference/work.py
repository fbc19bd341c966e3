"""What is sold in one call: how much it can take, how it is done, what it took."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol, runtime_checkable

from inference.engine.sampling import Sampling
from inference.errors import NodeError
from inference.payments.plans import Subscription
from inference.payments.pricing import Price, Usage
from inference.receipt_format import SamplingFacts


class Work(Protocol):
    """One unit of paid work; the API makes it from a request, `paid_call` runs it once.

    Token counts are in the model's own tokens. `usage` and `output_ids` grow as pieces are
    yielded, so that they say at any moment what was delivered.
    """

    streams: bool
    input_tokens: int
    max_output_tokens: int
    input_ids: tuple[int, ...]

    @property
    def usage(self) -> Usage:
        """What was used so far."""

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Tokens delivered so far."""

    @property
    def sampling(self) -> Sampling | None:
        """How tokens were drawn; None where none are."""

    @property
    def finish(self) -> str:
        """Why it ended: stop, length, cancelled (cut short), or none."""

    def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the exact bytes that leave the node."""

    def failing(self, failure: NodeError) -> bytes:
        """Return the piece of a stream that tells its reader of a failure."""

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        """Return the last piece of a stream, which carries the receipt."""


@runtime_checkable
class Generates(Protocol):
    """What work that makes tokens has beside: `exact` may have a price of its own.

    `payer` is whom the engine counts it for; set when the call is paid, before `perform`.
    """

    exact: bool
    payer: str


class Sells:
    """What work has beside that sells a subscription: what is sold, at a price of its own.

    A class to inherit from: every call is asked whether it is one, and a protocol is slow to tell.
    """

    offer: Subscription
    price: Price


def is_exact(work: Work | None) -> bool:
    """Return whether work asks for tokens that depend on it alone."""
    return bool(getattr(work, "exact", False))


def sampling_facts(sampling: Sampling) -> SamplingFacts:
    """Return what a receipt states of it; stop strings are the caller's text and stay out."""
    return SamplingFacts(
        seed=sampling.seed,
        temperature=format(abs(sampling.temperature).normalize(), "f"),
        top_p=format(sampling.top_p.normalize(), "f"),
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
    )
