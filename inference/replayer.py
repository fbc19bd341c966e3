"""Runs a call again, as an auditor: on weights this process verified and loaded itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal

from inference.api.chat import sampling_of
from inference.api.schemas import ChatRequest, parse
from inference.audit.replay import Prepared
from inference.engine.engine import TextEngine
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import ModelUnknownError
from inference.loader import load
from inference.receipt_format import Receipt, RuntimeFacts
from inference.work import sampling_facts
from registry.workspace import Workspace


class ModelReplayer:
    """A `Replayer` for chat models; verifies and loads each model a receipt names, once.

    `threads` is the receipt's own, where this machine has that many: sums of floats depend on how
    they are split.
    """

    def __init__(self, workspace: Workspace, progress: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._progress = progress
        self._engines: dict[bytes, TextEngine] = {}
        # Stop strings are the caller's text: requests name them, receipts do not.
        self._stops: dict[str, tuple[str, ...]] = {}

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        """Return what computes here."""
        facts = self._engine(receipt).facts
        return RuntimeFacts(facts.engine, facts.version, facts.dtype, facts.device, facts.threads)

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        """Read the request as an honest node does."""
        ask = parse(ChatRequest, request)
        engine = self._engine(receipt)
        sampling = sampling_of(ask, seed=receipt.sampling.seed)
        self._stops[receipt.id] = sampling.stop
        prompt = engine.encode_chat([message.plain() for message in ask.messages])
        return Prepared(prompt, sampling_facts(sampling))

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Sequence[int]:
        """Return the tokens this model gives."""
        return asyncio.run(self._generate(receipt, prepared, limit))

    def close(self) -> None:
        """Stop the engines."""
        for engine in self._engines.values():
            engine.close()

    async def _generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> list[int]:
        facts = prepared.sampling
        sampling = Sampling(
            max_tokens=limit,
            temperature=Decimal(facts.temperature),
            top_p=Decimal(facts.top_p),
            top_k=facts.top_k,
            seed=facts.seed,
            stop=self._stops.get(receipt.id, ()),
        )
        engine = self._engine(receipt)
        request = engine.submit(GenerationRequest(tuple(prepared.prompt_ids), sampling))
        found: list[int] = []
        async for delta in engine.stream(request):
            found.extend(delta.token_ids)
        return found

    def _engine(self, receipt: Receipt) -> TextEngine:
        model_id = receipt.model.model_id
        if model_id not in self._engines:
            self._progress(f"verifying {receipt.model.name}")
            verified = self._workspace.verify(model_id)
            self._progress(f"loading {receipt.model.name}")
            loaded = load(verified, device="cpu", threads=receipt.runtime.threads)
            if loaded.task != "chat":
                raise ModelUnknownError(f"{receipt.model.name} does not chat: nothing to replay")
            self._engines[model_id] = TextEngine(loaded)
        return self._engines[model_id]
