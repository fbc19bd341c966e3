"""From messages or text to a prompt's tokens, and whether an answer to it can fit."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many

from inference.engine.detokenizer import Detokenizer
from inference.engine.sequence import GenerationRequest
from inference.errors import LoadRefusedError, RequestError
from inference.loader import LoadedModel
from registry.errors import TemplateRefusedError


class Prompter:
    """Reads prompts for a model, the same whichever engine computes."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Raise `LoadRefusedError` for a model that does not chat."""
        if loaded.template is None:
            raise LoadRefusedError("chat_template.jinja", "is missing: this model cannot chat")
        self._template = loaded.template
        self._tokenizer = loaded.tokenizer
        self._limits = loaded.serving
        self._vocabulary = loaded.vocabulary

    def encode_chat(
        self, messages: Many[Mapping[str, object]], tools: Many[Mapping[str, object]] = ()
    ) -> tuple[int, ...]:
        """Return the prompt's token ids: the template rendered over messages and tools.

        Raises `RequestError` when the template refuses them.
        """
        try:
            text = self._template.render(messages, tools)
            return self._tokenizer.encode(text, add_special=False)
        except TemplateRefusedError as error:
            raise RequestError(f"messages: {error.message}", param="messages") from error

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text to continue as it is, without a template.

        Raises `RequestError` for a text that is not valid Unicode.
        """
        try:
            return self._tokenizer.encode(text, add_special=True)
        except TemplateRefusedError as error:
            raise RequestError(f"prompt: {error.message}", param="prompt") from error

    def check_length(self, input_tokens: int, max_output_tokens: int) -> None:
        """Raise `RequestError` if a call of that many tokens can never be served."""
        limits = self._limits
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

    def check_tokens(self, tokens: Many[int]) -> None:
        """Raise `RequestError` if the model does not know one of these tokens."""
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise RequestError("the prompt has a token the model does not know", param="messages")

    def detokenizer(self, request: GenerationRequest) -> Detokenizer:
        """Return what turns the answer's tokens into text."""
        return Detokenizer(self._tokenizer.decode, request.sampling.stop)
