"""The reference of the margin test: by how much a claimed answer's tokens lose on these weights.

One pass over prompt and answer, in single precision, by transformers' own modules: what is compared
with is then as near to the weights as can be had, and shares no kernel with what served the call.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence as Many
from typing import Any, Final

import numpy as np
import torch

from inference.engine.losing import behind
from inference.engine.packing import NAME
from inference.engine.sampling import Logits
from inference.engine.sequence import GenerationRequest
from inference.errors import GenerationError
from inference.loader import LoadedModel

# Rows of logits at a time: a few megabytes, whatever the answer's length.
_ROWS: Final = 32


class Reference:
    """A loaded model, widened to single precision; the widening of a bfloat16 number is exact."""

    def __init__(self, loaded: LoadedModel) -> None:
        # The packed copy is for kernels, which compute nothing here.
        packed = getattr(loaded.module, NAME, None)
        left_out: dict[int, Any] = {} if packed is None else {id(packed): torch.nn.Module()}
        module = copy.deepcopy(loaded.module, left_out)
        module.config._attn_implementation = "sdpa"
        module.float()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._module: Final = module

    def behind(self, request: GenerationRequest, claimed: Many[int]) -> tuple[float, ...]:
        """Return by how much, in logits, each claimed token lost to the one that is drawn here.

        0 for a token that is drawn here too, infinite for one that a grammar forbids. Raises
        `GenerationError` where the model computes no numbers.
        """
        found: list[float] = []
        counts: Counter[int] = Counter()
        constraint = request.constraint() if request.constraint else None
        for logits, token in zip(self._logits(request.prompt_ids, claimed), claimed, strict=True):
            allowed = None if constraint is None else constraint.allowed()
            if allowed is not None and not allowed[token]:
                # From here on the grammar has no state to go on from.
                return (*found, *[np.inf] * (len(claimed) - len(found)))
            position = len(request.prompt_ids) + len(found)
            found.append(behind(logits, request.sampling, position, token, counts, allowed))
            counts[token] += 1
            if constraint is not None:
                constraint.accept(token)
        return tuple(found)

    def _logits(self, prompt: Many[int], claimed: Many[int]) -> Any:
        """Yield the logits, shape (vocabulary,), from which each claimed token was chosen."""
        tokens = [*prompt, *claimed[:-1]]
        try:
            with torch.inference_mode():
                seen = self._module.base_model(input_ids=torch.tensor([tokens]), use_cache=False)
                rows = seen.last_hidden_state[0, len(prompt) - 1 :]
                head: Any = self._module.get_output_embeddings()  # type: ignore[no-untyped-call]
                for start in range(0, len(claimed), _ROWS):
                    logits: Logits = head(rows[start : start + _ROWS]).numpy()
                    yield from logits
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for all of its own
            raise GenerationError(f"the reference's pass failed: {error!s:.200}") from error
