"""The forward pass: tokens in, logits of the next token out."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from inference.engine.kv_cache import KvCache
from inference.engine.sampling import Logits
from inference.engine.sequence import Sequence
from inference.errors import GenerationError


class ModelRunner:
    """Runs a causal language model where its tensors lie, one sequence at a time."""

    def __init__(self, module: PreTrainedModel, device: torch.device) -> None:
        self._module = module
        self._device = device

    def run(self, sequence: Sequence) -> Logits:
        """Read what the sequence's cache has not seen; return the next token's logits.

        The result has shape (vocabulary,) and dtype float32. Raises `GenerationError` when the
        forward pass fails, for lack of memory for example.
        """
        if sequence.cache is None:
            sequence.cache = KvCache(self._module.config)
        try:
            with torch.inference_mode():
                ids = torch.tensor([sequence.next_input], dtype=torch.long, device=self._device)
                output = self._module(
                    input_ids=ids,
                    past_key_values=sequence.cache.states,
                    use_cache=True,
                    logits_to_keep=1,
                )
                logits: Logits = output.logits[0, -1].float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for all of its own
            raise GenerationError(f"the forward pass failed: {error!s:.200}") from error
        return logits
