"""The text engine: an asynchronous face on a thread that makes tokens.

`TextEngine` is the bridge between the two worlds: its methods are called on event loops, while
`step` runs on the worker's thread, which alone touches the model.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from collections.abc import Sequence as Many
from threading import Lock

from inference.engine.detokenizer import Detokenizer
from inference.engine.facts import EngineFacts, EngineStats, facts_of
from inference.engine.model_runner import ModelRunner
from inference.engine.sampling import Choice, Logits, choose
from inference.engine.scheduler import Scheduler
from inference.engine.sequence import Constraint, Delta, GenerationRequest, Outlet, Sequence
from inference.engine.worker import Worker
from inference.errors import (
    GenerationError,
    LoadRefusedError,
    NodeError,
    RequestError,
    UnavailableError,
)
from inference.loader import LoadedModel
from registry.errors import TemplateRefusedError

# What stands in the place of logits for a sequence that nobody reads any more.
_CANCELLED = GenerationError("the call was cancelled")


class TextEngine:
    """Generates text with a loaded causal language model.

    Every id that `submit` returns must be streamed to its end or cancelled.
    """

    def __init__(self, loaded: LoadedModel, *, queue_limit: int = 64) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not chat."""
        if loaded.template is None:
            raise LoadRefusedError("chat_template.jinja", "is missing: this model cannot chat")
        self._loaded = loaded
        self._template = loaded.template
        self._tokenizer = loaded.tokenizer
        self._runner = ModelRunner(loaded.module, loaded.torch_device)
        self._scheduler = Scheduler(queue_limit=queue_limit)
        self._worker = Worker(f"engine-{loaded.name}", threads=loaded.threads)
        self._sequences: dict[str, Sequence] = {}
        self._constraints: dict[str, Constraint] = {}
        self._turning = False
        self._lock = Lock()
        self._finished = 0
        self._output_tokens = 0
        self.facts: EngineFacts = facts_of(
            dtype=loaded.dtype, device=loaded.device, threads=loaded.threads
        )

    def encode_chat(self, messages: Many[Mapping[str, str]]) -> tuple[int, ...]:
        """Return the prompt's token ids: the template rendered over messages (role, content).

        Raises `RequestError` when the template refuses them.
        """
        try:
            text = self._template.render(messages)
            return self._tokenizer.encode(text, add_special=False)
        except TemplateRefusedError as error:
            raise RequestError(error.message, param="messages") from error

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text to continue as it is, without a template.

        Raises `RequestError` for a text that is not valid Unicode.
        """
        try:
            return self._tokenizer.encode(text, add_special=True)
        except TemplateRefusedError as error:
            raise RequestError(error.message, param="prompt") from error

    def count_prompt(self, messages: Many[Mapping[str, str]]) -> int:
        """Return how many tokens a prompt takes. Raises like `encode_chat`."""
        return len(self.encode_chat(messages))

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        """Raise `RequestError` if a call of that many tokens can never be served."""
        limits = self._loaded.serving
        if max_output_tokens > limits.max_output:
            raise RequestError(
                f"max_tokens is {max_output_tokens}, this model makes at most {limits.max_output}",
                param="max_tokens",
            )
        if input_tokens == 0:
            raise RequestError("the prompt has no tokens", param="messages")
        if input_tokens + max_output_tokens > limits.max_context:
            raise RequestError(
                f"the prompt has {input_tokens} tokens; with {max_output_tokens} to make, "
                f"at most {limits.max_context - max_output_tokens} fit",
                param="messages",
            )

    def submit(self, request: GenerationRequest) -> str:
        """Queue a request on the running event loop; return its id.

        Raises `RequestError` when it can never fit, `UnavailableError` when the queue is full or
        the engine stopped.
        """
        self.check_length(len(request.prompt_ids), request.sampling.max_tokens)
        if not all(0 <= token < self._loaded.vocabulary for token in request.prompt_ids):
            raise RequestError("the prompt has a token the model does not know", param="messages")
        sequence = Sequence(
            id=secrets.token_hex(8),
            request=request,
            outlet=Outlet(asyncio.get_running_loop()),
            detokenizer=Detokenizer(self._tokenizer.decode, request.sampling.stop),
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
            while True:
                item = await sequence.outlet.receive()
                if isinstance(item, NodeError):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            self.cancel(id)

    def cancel(self, id: str) -> None:
        """Give up a request; its place is free within one step. Unknown ids are let pass."""
        sequence = self._sequences.pop(id, None)
        if sequence is not None:
            sequence.cancelled = True

    def stats(self) -> EngineStats:
        """Return what the engine does now and did so far."""
        caches = [sequence.cache for sequence in list(self._sequences.values())]
        return EngineStats(
            waiting=self._scheduler.waiting,
            running=self._scheduler.running,
            finished=self._finished,
            output_tokens=self._output_tokens,
            cache_bytes=sum(cache.nbytes for cache in caches if cache is not None),
        )

    def close(self) -> None:
        """End the thread within one step; calls under way end with `UnavailableError`."""
        self._worker.close()
        self._fail_all(UnavailableError("this model's engine was stopped"))

    def step(self) -> None:
        """Make one token for each sequence whose turn it is. Runs on the worker's thread."""
        batch = self._scheduler.schedule()
        results = self._run(batch)
        self._postprocess(batch, results)
        self._deliver(batch)
        self._collect(batch)

    def _run(self, batch: list[Sequence]) -> list[Logits | NodeError]:
        return [self._next_logits(sequence) for sequence in batch]

    def _next_logits(self, sequence: Sequence) -> Logits | NodeError:
        if sequence.cancelled:
            return _CANCELLED
        try:
            return self._runner.run(sequence)
        except GenerationError as error:
            return error

    def _postprocess(self, batch: list[Sequence], results: list[Logits | NodeError]) -> None:
        """Turn logits into tokens and text. What fails, fails alone."""
        for sequence, result in zip(batch, results, strict=True):
            if sequence.cancelled:
                sequence.end_cancelled()
            elif isinstance(result, NodeError):
                sequence.fail(result)
            else:
                try:
                    choice = self._choose(result, sequence)
                except GenerationError as error:
                    sequence.fail(error)
                else:
                    sequence.append(choice, self._loaded.end_ids)

    def _choose(self, logits: Logits, sequence: Sequence) -> Choice:
        constraint = self._constraints.get(sequence.id)
        if constraint is None and sequence.request.constraint is not None:
            constraint = self._constraints[sequence.id] = sequence.request.constraint()
        allowed = None if constraint is None else constraint.allowed()
        counts = Counter(sequence.output_ids)
        choice = choose(logits, sequence.request.sampling, sequence.position, counts, allowed)
        if constraint is not None:
            constraint.accept(choice.token)
        return choice

    def _deliver(self, batch: list[Sequence]) -> None:
        for sequence in batch:
            item, sequence.pending = sequence.pending, None
            if item is not None and not sequence.outlet.send(item):
                sequence.cancelled = True

    def _collect(self, batch: list[Sequence]) -> None:
        """Free what ended."""
        self._scheduler.drop_finished()
        for sequence in batch:
            if sequence.finished:
                sequence.cache = None
                self._constraints.pop(sequence.id, None)
                self._finished += 1
                self._output_tokens += len(sequence.output_ids)

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
        except Exception as error:  # the thread's outermost door: nobody else would hear of it
            self._fail_all(GenerationError(f"the engine failed: {error!r:.200}"))
        with self._lock:
            self._turning = False
            if not self._scheduler.idle:
                self._next_turn()

    def _fail_all(self, error: NodeError) -> None:
        for sequence in self._scheduler.drain():
            sequence.cache = None
            sequence.outlet.send(error)
