"""The second engine: transformers' own continuous batching behind the same interface.

It computes with the very tensors the loader proved, tokens are chosen by our own rule, and what
it cannot promise it refuses. Against ours it differs so:

- tokens depend on what else is computed, because rounding does: it is never exact;
- who came first is served first, whoever pays;
- a prompt's head that was computed before is computed again: their cache does not know payers;
- a forward pass that fails ends everything that was under way, not only what made it fail.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from threading import Lock, Thread
from typing import Any, Final

from transformers import ContinuousBatchingConfig, GenerationConfig

from inference.engine.answer_table import AnswerTable
from inference.engine.compute_plan import ComputePlan
from inference.engine.continuous_hooks import Chooser, FailureRouter
from inference.engine.facts import EngineFacts, EngineStats, facts_of
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.prompter import Prompter
from inference.engine.sequence import Delta, GenerationRequest, Outlet, Sequence
from inference.errors import (
    LoadRefusedError,
    QueueFullError,
    RequestError,
    UnavailableError,
)
from inference.loader import LoadedModel

# How many sequences compute together, and how many tokens of theirs, at most.
MAX_RUNNING: Final = 32
STEP_TOKENS: Final = 512
# Their masks are as wide as the whole cache: it has room for one full context or this many tokens.
CACHE_TOKENS: Final = 16_384
_STOPPED: Final = "this model's engine was stopped"


class ContinuousEngine:
    """Generates text with transformers' ContinuousBatchingManager; see `Generator`."""

    def __init__(
        self, loaded: LoadedModel, *, queue_limit: int = 64, max_running: int = MAX_RUNNING
    ) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model it cannot serve."""
        self._prompter = Prompter(loaded)
        if loaded.plan is None:
            raise LoadRefusedError("config.json", "is not of a model that makes tokens")
        self._queue_limit = queue_limit
        self._answers = AnswerTable(loaded.end_ids)
        self._sequences: dict[str, Sequence] = {}
        self._closing = False
        self._lock = Lock()
        self._manager = _manager(loaded, loaded.plan, max_running)
        self._chooser = Chooser(self._answers, self._manager.cancel_request, loaded.threads)
        self._manager.logit_processor = self._chooser
        self._manager.output_router = FailureRouter(self._answers)
        try:
            self._manager.warmup()  # takes the cache's memory now, not at the first call
        except (RuntimeError, MemoryError, ValueError) as error:
            raise LoadRefusedError(
                "config.json", f"has no room to compute: {error!s:.200}"
            ) from error
        self._start()
        self.facts: EngineFacts = facts_of(
            dtype=loaded.dtype,
            device=loaded.device,
            threads=loaded.threads,
            engine="transformers/continuous",
        )

    def facts_for(self, *, exact: bool) -> EngineFacts:
        """Return what computes; it is exact for nobody."""
        return self.facts

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        """Raise `RequestError` or `QueueFullError`; see `Generator`."""
        self._prompter.check_length(input_tokens, max_output_tokens)
        waiting = self._waiting()
        if waiting >= self._queue_limit:
            raise QueueFullError(waiting)

    def check_exact(self) -> None:
        """Raise `RequestError`: rounding depends on what is computed together."""
        raise RequestError(
            "this model's engine cannot promise the same tokens again", param="determinism"
        )

    def submit(self, request: GenerationRequest) -> str:
        """Queue a request; return its id. Raises `RequestError` for one that must be exact."""
        if request.exact:
            self.check_exact()
        self.check_length(len(request.prompt_ids), request.sampling.max_tokens)
        self._prompter.check_tokens(request.prompt_ids)
        sequence = Sequence(
            id=secrets.token_hex(8),
            request=request,
            outlet=Outlet(asyncio.get_running_loop()),
            detokenizer=self._prompter.detokenizer(request),
            constraint=request.constraint() if request.constraint else None,
        )
        with self._lock:
            self._send(sequence)
        self._sequences[sequence.id] = sequence
        return sequence.id

    async def stream(self, id: str) -> AsyncIterator[Delta]:
        """Yield an answer's deltas; see `Generator`."""
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
        self._sequences.pop(id, None)
        if self._answers.cancel(id):
            self._manager.cancel_request(id)

    def stats(self) -> EngineStats:
        """Return what the engine does now and did so far."""
        answers, processor = self._answers, self._manager.batch_processor
        capacity = used = 0
        if processor is not None:
            cache = processor.cache
            capacity = cache.num_sectors * cache.bytes_per_sector
            used = capacity - int(cache.compute_free_capacity(relative=False))
        return EngineStats(
            waiting=self._waiting(),
            running=self._running(),
            finished=answers.finished,
            output_tokens=answers.output_tokens,
            cache_bytes=used,
            failed=answers.failed,
            input_tokens=answers.input_tokens,
            steps=self._chooser.steps,
            batch_tokens=self._chooser.batch_tokens,
            cache_capacity=capacity,
        )

    def close(self) -> None:
        """End the thread within one step; calls under way end with `UnavailableError`."""
        with self._lock:
            self._closing = True
            # First, so that their own ending, which the manager reports as a failure, is no news.
            self._answers.fail_all(UnavailableError(_STOPPED))
            if self._manager.batch_processor is not None:
                self._manager.stop(hard_stop=True)
                self._manager.destroy()

    def _send(self, sequence: Sequence) -> None:
        """Hand a sequence to the manager, whose thread is begun anew where a failure ended it."""
        self._answers.add(sequence)
        while True:
            if self._closing:
                self._answers.fail_all(UnavailableError(_STOPPED))
                raise UnavailableError(_STOPPED)
            self._revive()
            if self._manager.add_request(list(sequence.request.prompt_ids), sequence.id):
                break
        # The thread may have ended meanwhile; what it did not fail then, the next one computes.
        self._revive()

    def _revive(self) -> None:
        manager: Any = self._manager
        if manager.background_thread_status.can_accept_new_requests() is not None:
            manager.join(0.0)
            self._start()

    def _start(self) -> None:
        """Start the manager's thread as one that does not keep a process alive which forgot it.

        They make it without saying so, and a thread is what the one that made it is.
        """
        maker = Thread(target=self._manager.start, daemon=True)
        maker.start()
        maker.join()

    def _running(self) -> int:
        processor = self._manager.batch_processor
        return len(processor.scheduler.active_requests) if processor is not None else 0

    def _waiting(self) -> int:
        return max(0, len(self._answers) - self._running())


def _manager(loaded: LoadedModel, plan: ComputePlan, max_running: int) -> Any:
    """Return their manager over a loaded module, with nothing left for it to guess or fetch."""
    context = blocks_for(loaded.serving.max_context)
    # A block more than a context: they keep one for the token to come.
    blocks = max(context + 1, min(plan.blocks, CACHE_TOKENS // BLOCK))
    config = ContinuousBatchingConfig(
        page_size=BLOCK,
        num_blocks=blocks,
        max_batch_tokens=STEP_TOKENS + max_running,
        max_memory_percent=1.0,
        max_requests_per_batch=max_running,
        # What one payer's prompt left must not tell another payer of it.
        allow_block_sharing=False,
        use_async_batching=False,
        use_cuda_graph=False,
        # Their faster attention would be fetched from a hub.
        auto_switch_to_flash=False,
    )
    # We end answers ourselves: at end tokens, at stop strings and at their length.
    how = GenerationConfig(do_sample=False, eos_token_id=-1)  # type: ignore[no-untyped-call]  # theirs
    module: Any = loaded.module
    return module.init_continuous_batching(generation_config=how, continuous_batching_config=config)
