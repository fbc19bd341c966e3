"""What is measured: each way in which a call was computed, honest or not, and its calls."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from subject import register
from torch.overrides import TorchFunctionMode

from inference.engine.engine import TextEngine
from inference.engine.prompter import Prompter
from inference.engine.reference import Reference
from inference.loader import LoadedModel, load
from registry.chain.devnet import Devnet
from replay_measure.asks import SAMPLINGS, Ask, asks
from replay_measure.variants import prepare

KERNELS: Final = "kernels"
MODULES: Final = "modules"
BF16_MODULES: Final = "bf16 modules"
# So many calls are made between two writings of what was found.
PIECE: Final = 16


@dataclass(frozen=True)
class Condition:
    """How calls were computed. `calls` of each sampling, `together` at a time.

    `claim` is the arithmetic that the receipt would name: single precision or bfloat16. The calls
    are those from number `first` on.
    """

    name: str
    honest: bool
    calls: int
    folder: str = ""
    forward: str = KERNELS
    claim: str = "single"
    threads: int = 1
    together: int = 32
    lie: str = ""
    first: int = 0

    @property
    def file(self) -> str:
        """Where its calls are kept."""
        return self.name.replace(" ", "-").replace(",", "") + ".jsonl"

    @property
    def numbers(self) -> range:
        """Which calls are made."""
        return range(self.first, self.first + self.calls)


CONDITIONS: Final = (
    Condition("same kernels", True, 32),
    Condition("two threads", True, 8, threads=2),
    Condition("other company", True, 8, together=3),
    Condition("fp32 modules", True, 32, folder="f32", forward=MODULES, together=16),
    Condition("4-bit weights", False, 32, folder="int4"),
    Condition("bf16 modules", True, 32, forward=BF16_MODULES, claim="half", together=32),
    Condition("8-bit weights", False, 32, folder="int8"),
    Condition("other temperature", False, 16, lie="temperature"),
    Condition("other template", False, 16, lie="template"),
    Condition("truncated context", False, 16, lie="truncated"),
    Condition("two layers fewer", False, 16, folder="smaller"),
    Condition("fine-tuned", False, 16, folder="tuned"),
    Condition("4-bit weights in bf16", False, 32, "int4", BF16_MODULES, "half"),
    Condition("bf16 modules, three at a time", True, 8, "", BF16_MODULES, "half", together=3),
    Condition("bf16 modules, other calls", True, 96, "", BF16_MODULES, "half", first=32),
    Condition("8-bit weights in bf16", False, 16, "int8", BF16_MODULES, "half"),
)


@dataclass(frozen=True)
class Scored:
    """A call: which tokens came, and by how much each lost in the reference, in logits."""

    sampling: str
    number: int
    ids: tuple[int, ...]
    behind: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; infinity is -1."""
        lost = [-1.0 if b == float("inf") else round(b, 6) for b in self.behind]
        return {**asdict(self), "behind": lost}


class Laboratory:
    """The registered model, the reference, and the folders that are served in its place."""

    def __init__(self, source: Path, work: Path, net: Devnet, say: Callable[[str], None]) -> None:
        self._source, self._work, self._net, self._say = source, work, net, say
        self._reference: Reference | None = None

    def calls(self, condition: Condition, skip: int) -> Iterator[list[Scored]]:
        """Make a condition's calls but the first `skip`, and yield them scored, piece by piece."""
        with self._engine(condition) as (engine, loaded):
            wanted = [
                (how, number, ask)
                for how in SAMPLINGS
                for number, ask in asks(Prompter(loaded), how, condition.numbers, condition.lie)
            ]
            size = max(PIECE, condition.together)
            for start in range(skip, len(wanted), size):
                piece = wanted[start : start + size]
                answers = asyncio.run(_answers(engine, [ask for _, _, ask in piece]))
                reference = self._ready()
                yield [
                    Scored(how, number, ids, reference.behind(ask.asked, ids))
                    for (how, number, ask), ids in zip(piece, answers, strict=True)
                ]

    @contextmanager
    def _engine(self, condition: Condition) -> Iterator[tuple[TextEngine, LoadedModel]]:
        loaded = self._loaded(condition.folder, condition.threads)
        if condition.forward != KERNELS:
            loaded = _by_modules(loaded, round_off=condition.forward == BF16_MODULES)
        engine = TextEngine(loaded, queue_limit=256, max_running=condition.together)
        with closing(engine):
            if condition.forward == BF16_MODULES:
                # Such a mode holds for the thread that enters it: here the one that computes.
                engine._worker.call(Rounded().__enter__).result()
            yield engine, loaded

    def _loaded(self, kind: str, threads: int) -> LoadedModel:
        folder = self._source
        if kind:
            self._say(f"preparing {kind}")
            folder = prepare(kind, self._source, self._work / kind, self._say)
        self._say(f"registering and loading {folder.name}")
        with register(self._net, folder, "chat").verify() as verified:
            return load(verified, device="cpu", threads=threads, single=True)

    def _ready(self) -> Reference:
        if self._reference is None:
            self._reference = Reference(self._loaded("", 1))
        return self._reference


async def _answers(engine: TextEngine, piece: Sequence[Ask]) -> list[tuple[int, ...]]:
    async def one(ask: Ask) -> tuple[int, ...]:
        id = engine.submit(ask.done)
        return tuple([t async for delta in engine.stream(id) for t in delta.token_ids])

    return list(await asyncio.gather(*map(one, piece)))


def _by_modules(loaded: LoadedModel, *, round_off: bool) -> LoadedModel:
    """Return the model as a node serves it that computes by transformers' own modules."""
    if loaded.plan is None:
        raise TypeError("the registered model makes tokens")
    other = copy.copy(loaded)
    object.__setattr__(other, "plan", replace(loaded.plan, packed=False))
    if round_off:
        other.module.bfloat16()
    return other


class Rounded(TorchFunctionMode):
    """bfloat16 arithmetic as processors with a unit for it do it, on those that have none.

    Products of bfloat16 numbers are exact in single precision, sums are single precision, results
    are rounded once. torch itself takes some ten times as long for it here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wide: dict[int, torch.Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute one function of torch."""
        functional = torch.nn.functional
        if func is functional.linear and args[0].dtype == torch.bfloat16:
            numbers, weight = args[:2]
            if id(weight) not in self._wide:
                self._wide[id(weight)] = weight.float()
            return func(numbers.float(), self._wide[id(weight)]).to(torch.bfloat16)
        if func is functional.scaled_dot_product_attention and args[0].dtype == torch.bfloat16:
            return func(*(each.float() for each in args), **(kwargs or {})).to(torch.bfloat16)
        return func(*args, **(kwargs or {}))
