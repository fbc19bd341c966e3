"""Runs a call again, as an auditor: on weights this process verified and loaded itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property

from inference.api.answers import Answers
from inference.api.plan import TextPlan, plan_of
from inference.audit.margin_test import HALF
from inference.audit.margin_test import SINGLE as SINGLE_PRECISION
from inference.audit.replay import Made, Prepared, Weighed
from inference.claimed_answers import ClaimedAnswers
from inference.engine.engine import TextEngine
from inference.engine.packing import SINGLE
from inference.engine.reference import Reference
from inference.errors import ModelUnknownError
from inference.loader import LoadedModel, load
from inference.receipt_format import PARTIAL, Receipt, RuntimeFacts
from inference.statements import runtime_of
from inference.work import sampling_facts
from registry.workspace import Workspace


@dataclass(frozen=True)
class _Served:
    """A model that was loaded here, and its engine."""

    loaded: LoadedModel
    engine: TextEngine

    @cached_property
    def reference(self) -> Reference:
        """What claimed answers are weighed with."""
        return Reference(self.loaded)


class ModelReplayer:
    """A `Replayer` for models that make text; verifies and loads each a receipt names, once.

    `threads` is the receipt's own, where this machine has that many: sums of floats depend on how
    they are split.
    """

    def __init__(self, workspace: Workspace, progress: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._progress = progress
        self._models: dict[tuple[bytes, bool], _Served] = {}
        # Stop strings, penalties and grammars are in the request, not in the receipt.
        self._plans: dict[str, TextPlan] = {}

    def weights(self, receipt: Receipt) -> bytes:
        """Return the resident digest of the model that was verified here."""
        return self._served(receipt).loaded.resident.digest

    def runtime(self, receipt: Receipt) -> RuntimeFacts:
        """Return what computes here."""
        engine = self._served(receipt).engine
        return runtime_of(engine.facts_for(exact=receipt.runtime.is_exact))

    def prepare(self, receipt: Receipt, request: bytes) -> Prepared:
        """Read the request as an honest node does that got it at the receipt's path."""
        loaded = self._served(receipt).loaded
        plan = plan_of(receipt.request.path, request, loaded, seed=receipt.sampling.seed)
        self._plans[receipt.id] = plan
        return Prepared(plan.input_ids, sampling_facts(plan.total), plan.exact)

    def generate(self, receipt: Receipt, prepared: Prepared, limit: int) -> Made:
        """Return the tokens this model gives to a call that was prepared, at most `limit`.

        Of several answers these are the ones that are told of first.
        """
        return asyncio.run(self._generate(receipt, limit))

    def texts(self, receipt: Receipt, ids: tuple[int, ...]) -> tuple[str, ...] | None:
        """Return what the answers say whose tokens these are; None where tools may be called."""
        plan = self._plans[receipt.id]
        if plan.tool_format:
            return None
        return ClaimedAnswers(self._served(receipt).loaded, plan, ids).texts

    def weigh(self, receipt: Receipt, prepared: Prepared, claimed: tuple[int, ...]) -> Weighed:
        """Compute once over prompt and answer, and say by how much each token lost."""
        served = self._served(receipt)
        answers = ClaimedAnswers(served.loaded, self._plans[receipt.id], claimed)
        if fault := answers.fault(partial=receipt.status == PARTIAL):
            return Weighed((), _arithmetic(receipt.runtime), fault)
        self._progress(f"weighing {len(claimed)} tokens of {receipt.model.name}")
        lost = [served.reference.behind(request, ids) for request, ids in answers.pairs]
        return Weighed(tuple(b for part in lost for b in part), _arithmetic(receipt.runtime))

    def close(self) -> None:
        """Stop the engines."""
        for served in self._models.values():
            served.engine.close()

    async def _generate(self, receipt: Receipt, limit: int) -> Made:
        answers = Answers(self._served(receipt).engine, self._plans[receipt.id].requests(""))
        if limit == 0:
            return Made((), ())
        async with aclosing(answers.told()) as told:
            async for _ in told:
                if answers.output_tokens >= limit:
                    break
        return Made(answers.output_ids, answers.margins)

    def _served(self, receipt: Receipt) -> _Served:
        model_id = receipt.model.model_id
        # A node without a bfloat16 unit computes bfloat16 otherwise than one with it: here either
        # is done, but for the unit's own where there is none, which is another runtime then.
        single = _kernels(receipt.runtime) == SINGLE
        if (model_id, single) not in self._models:
            self._progress(f"verifying {receipt.model.name}")
            verified = self._workspace.verify(model_id)
            self._progress(f"loading {receipt.model.name}")
            loaded = load(verified, device="cpu", threads=receipt.runtime.threads, single=single)
            if loaded.task != "chat":
                raise ModelUnknownError(f"{receipt.model.name} does not chat: nothing to replay")
            self._models[model_id, single] = _Served(loaded, TextEngine(loaded))
        return self._models[model_id, single]


def _kernels(runtime: RuntimeFacts) -> str:
    return runtime.engine.split(" ")[0].removeprefix("weightproof/")


def _arithmetic(runtime: RuntimeFacts) -> str:
    """Return how roughly a node computes by its own word: it is held to no more than that."""
    single = runtime.dtype == "F32" or _kernels(runtime) == SINGLE
    return SINGLE_PRECISION if single else HALF
