"""The text engine: an asynchronous face on a thread that makes tokens.

`TextEngine` is the bridge between the two worlds: its methods are called on event loops, while
`step` runs on the worker's thread, which alone touches the model.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from threading import Lock
from typing import Final, TypeAlias

from inference.engine.choosing import choose
from inference.engine.facts import EngineFacts, EngineStats, facts_of
from inference.engine.forward import NextLogits, Span
from inference.engine.forwards import open_forward
from inference.engine.kv_cache import Blocks
from inference.engine.prompter import Prompter
from inference.engine.sampling import Choice
from inference.engine.scheduler import IDLE_TOKENS, Scheduler, Step
from inference.engine.sequence import Delta, GenerationRequest, Outlet, Sequence, deliver
from inference.engine.worker import Worker
from inference.errors import (
    GenerationError,
    LoadRefusedError,
    NodeError,
    RequestError,
    UnavailableError,
)
from inference.loader import LoadedModel

# How many sequences compute together at most.
MAX_RUNNING: Final = 32
Result: TypeAlias = NextLogits | NodeError | None


class TextEngine:
    """Generates text with a loaded causal language model.

    Every id that `submit` returns must be streamed to its end or cancelled.
    """

    def __init__(
        self, loaded: LoadedModel, *, queue_limit: int = 64, max_running: int = MAX_RUNNING
    ) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not chat."""
        self._loaded = loaded
        self._prompter = Prompter(loaded)
        plan = loaded.plan
        if plan is None:
            raise LoadRefusedError("config.json", "is not of a model that makes tokens")
        self._block_bytes = plan.block_bytes
        self._forward = open_forward(
            loaded, plan, rows=IDLE_TOKENS + max_running, sequences=max_running
        )
        self._scheduler = Scheduler(
            Blocks(plan.blocks),
            queue_limit=queue_limit,
            max_running=max_running,
            invariant=self._forward.is_invariant,
        )
        self._worker = Worker(f"engine-{loaded.name}", threads=loaded.threads)
        self._sequences: dict[str, Sequence] = {}
        self._turning = False
        self._lock = Lock()
        self._finished = self._failed = self._steps = 0
        self._input_tokens = self._output_tokens = self._batch_tokens = 0
        name = f"weightproof/{self._forward.name}"
        self._exact_facts = self._facts_of(name + " exact")
        self.facts: EngineFacts = (
            self._exact_facts if self._forward.is_invariant else self._facts_of(name)
        )

    def facts_for(self, *, exact: bool) -> EngineFacts:
        """Return what computes a call that asked for exactness, or did not.

        The engine's name ends in `exact` where the same call gives the same tokens, bit for bit,
        whatever else is computed beside it.
        """
        return self._exact_facts if exact else self.facts

    def _facts_of(self, name: str) -> EngineFacts:
        loaded = self._loaded
        return facts_of(
            dtype=loaded.dtype, device=loaded.device, threads=loaded.threads, engine=name
        )

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        """Raise `RequestError` if a call of that many tokens can never be served.

        Raises `QueueFullError` if it could not even wait now.
        """
        self._prompter.check_length(input_tokens, max_output_tokens)
        self._scheduler.check_room()

    def check_exact(self) -> None:
        """Let every call pass: who asks for exactness gets it."""

    def submit(self, request: GenerationRequest) -> str:
        """Queue a request on the running event loop; return its id.

        Raises `RequestError` when it can never fit, `QueueFullError`, or `UnavailableError` when
        the engine stopped.
        """
        self.check_length(len(request.prompt_ids), request.sampling.max_tokens)
        self._prompter.check_tokens(request.prompt_ids)
        sequence = Sequence(
            id=secrets.token_hex(8),
            request=request,
            outlet=Outlet(asyncio.get_running_loop()),
            detokenizer=self._prompter.detokenizer(request),
            constraint=request.constraint() if request.constraint else None,
        )
        self._scheduler.add(sequence)
        self._sequences[sequence.id] = sequence
        try:
            self._wake()
        except UnavailableError as error:
            self._fail_all(error)
            raise
        return sequence.id

    async def stream(self, id: str) -> AsyncIterator[Delta]:
        """Yield an answer's deltas; the last one has a finish reason.

        Raises `GenerationError` when the model fails, `UnavailableError` when the engine stops.
        A reader that leaves early cancels the request.
        """
        sequence = self._sequences.get(id)
        if sequence is None:
            raise RequestError(f"no generation {id:.40} is under way")
        try:
            async for delta in sequence.outlet.deltas():
                yield delta
        finally:
            self.cancel(id)

    def cancel(self, id: str) -> None:
        """Give up a request; its place is free within one step. Unknown ids are let pass."""
        sequence = self._sequences.pop(id, None)
        if sequence is not None:
            sequence.cancelled = True

    def stats(self) -> EngineStats:
        """Return what the engine does now and did so far."""
        blocks, size = self._scheduler.blocks, self._block_bytes
        return EngineStats(
            waiting=self._scheduler.waiting,
            running=self._scheduler.running,
            finished=self._finished,
            output_tokens=self._output_tokens,
            cache_bytes=blocks.used * size,
            failed=self._failed,
            input_tokens=self._input_tokens,
            cached_tokens=self._scheduler.cached_tokens,
            steps=self._steps,
            batch_tokens=self._batch_tokens,
            cache_capacity=blocks.total * size,
        )

    def close(self) -> None:
        """End the thread within one step; calls under way end with `UnavailableError`."""
        self._worker.close()
        # A turn that had not begun when the thread ended is none any more: who comes must not wait.
        self._turning = False
        self._forward.close()
        self._fail_all(UnavailableError("this model's engine was stopped"))

    def step(self) -> None:
        """Compute one step of everything under way. Runs on the worker's thread."""
        step = self._schedule()
        results = self._run(step.spans)
        self._postprocess(step, results)
        self._deliver(step)
        self._collect(step)

    def _schedule(self) -> Step:
        step = self._scheduler.schedule()
        for sequence in step.left:
            sequence.end_cancelled()
        # Told before anything can break: nobody else knows of them any more.
        deliver(step.left)
        return step

    def _run(self, spans: list[Span]) -> list[Result]:
        """Compute spans together. Where that fails, in halves: what fails, fails alone."""
        if not spans:
            return []
        try:
            return list(self._forward.run(spans))
        except GenerationError as error:
            if len(spans) == 1:
                return [error]
        middle = len(spans) // 2
        # The first half's logits must be used before the second half is computed.
        return [*map(_kept, self._run(spans[:middle])), *self._run(spans[middle:])]

    def _postprocess(self, step: Step, results: list[Result]) -> None:
        """Turn logits into tokens and text."""
        for span, result in zip(step.spans, results, strict=True):
            if isinstance(result, NodeError):
                span.sequence.fail(result)
                continue
            self._scheduler.advance(span)
            if result is not None:
                self._extend(span.sequence, result)

    def _extend(self, sequence: Sequence, next_: NextLogits) -> None:
        try:
            choice = _choose(sequence, next_)
            if sequence.constraint is not None:
                sequence.constraint.accept(choice.token)
        except GenerationError as error:
            sequence.fail(error)
        else:
            sequence.append(choice, self._loaded.end_ids)

    def _deliver(self, step: Step) -> None:
        deliver(span.sequence for span in step.spans)

    def _collect(self, step: Step) -> None:
        """Count, and free what ended: who sees that nothing runs sees all of it counted."""
        self._steps += bool(step.spans)
        self._batch_tokens += sum(span.count for span in step.spans)
        for sequence in (*step.left, *(span.sequence for span in step.spans)):
            if sequence.finished:
                self._finished += 1
                self._failed += sequence.failed
                self._input_tokens += len(sequence.request.prompt_ids)
                self._output_tokens += sequence.made
        self._scheduler.drop_finished()

    def _wake(self) -> None:
        with self._lock:
            if not self._turning:
                self._next_turn()

    def _next_turn(self) -> None:
        self._worker.call(self._turn)
        self._turning = True

    def _turn(self) -> None:
        try:
            self.step()
        except BaseException as error:  # the thread's outermost door: nobody else would hear of it,
            # and a panic of native code is no Exception.
            self._fail_all(GenerationError(f"the engine failed: {error!r:.200}"))
        with self._lock:
            self._turning = False
            if not self._scheduler.idle:
                self._next_turn()

    def _fail_all(self, error: NodeError) -> None:
        left = self._scheduler.drain()
        for sequence in left:
            sequence.fail(error)
        deliver(left)
        self._finished += len(left)
        self._failed += len(left)


def _choose(sequence: Sequence, next_: NextLogits) -> Choice:
    return choose(
        next_.logits,
        sequence.request.sampling,
        sequence.position,
        sequence.counts,
        sequence.constraint.allowed() if sequence.constraint else None,
        next_.peak,
    )


def _kept(result: Result) -> Result:
    return (
        replace(result, logits=result.logits.copy()) if isinstance(result, NextLogits) else result
    )
