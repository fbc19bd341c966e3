"""Where transformers' continuous batching calls us: to choose tokens, and when a request fails.

Both run on its thread, within its step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestState

from inference.engine.answer_table import AnswerTable, Outcome
from inference.engine.choosing import choose
from inference.engine.sampling import Choice, Logits
from inference.engine.sequence import Sequence
from inference.errors import GenerationError


class Chooser(ContinuousBatchingLogitsProcessorList):
    """Chooses every token by our own rule, and leaves their argmax no other choice.

    It stands where their list of logits processors does. `cancel` is called with the id of each
    request that needs no more; `threads` is how many processors one operation may use.
    """

    def __init__(self, answers: AnswerTable, cancel: Callable[[str], None], threads: int) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self.steps = self.batch_tokens = 0
        self._answers = answers
        self._cancel = cancel
        self._threads = threads
        self._rows: list[Sequence | None] = []

    def prepare_tensor_args(
        self, requests_in_batch: list[Any], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        """Note whose logits the next step computes, in their order."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # torch keeps it for each thread
        self.steps += 1
        self.batch_tokens += sum(request.query_length for request in requests_in_batch)
        wanted = [request.state for request in requests_in_batch if request.has_new_token]
        self._rows = [self._answers.find(state.request_id) for state in wanted]
        for state, sequence in zip(wanted, self._rows, strict=True):
            if sequence is None:  # its cancellation came before it did
                self._cancel(state.request_id)
        return arg_storage

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, logits_processor_args: torch.Tensor
    ) -> torch.Tensor:
        """Choose from scores, shape (rows, vocabulary), float32; rows beyond ours are padding."""
        logits = scores[: len(self._rows)].cpu().numpy()
        rows = [(row, s) for row, s in enumerate(self._rows) if s is not None]
        outcomes = [_outcome(sequence, logits[row]) for row, sequence in rows]
        for (row, _), (_, outcome) in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Choice):
                scores[row, outcome.token] = torch.inf
        for id in self._answers.take(outcomes):
            self._cancel(id)
        return scores


class FailureRouter(OutputRouter):
    """Takes what requests end with: only failures are news, tokens went out as they were chosen."""

    def __init__(self, answers: AnswerTable) -> None:
        super().__init__()
        self._answers = answers

    def deliver(self, output: GenerationOutput) -> None:
        """Pass by a request that is done."""

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        """Pass by requests that are done."""

    def fail_and_deliver(self, state: RequestState, error: Exception) -> None:
        """End an answer whose request failed."""
        sequence = self._answers.find(state.request_id)
        if sequence is not None:
            failure = GenerationError(f"the forward pass failed: {error!s:.200}")
            self._answers.take([(sequence, failure)])


def _outcome(sequence: Sequence, logits: Logits) -> Outcome:
    constraint = sequence.constraint
    try:
        allowed = None if constraint is None else constraint.allowed()
        choice = choose(
            logits, sequence.request.sampling, sequence.position, sequence.counts, allowed
        )
        if constraint is not None:
            constraint.accept(choice.token)
    except GenerationError as error:
        return sequence, error
    return sequence, choice
