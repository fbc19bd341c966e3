"""What a text request asks of an engine. The node makes it to serve, an auditor to replay.

It follows from the request's bytes, the model and a seed alone, so that both make the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.api.chat_body import ChatRequest
from inference.api.completion_body import CompletionRequest
from inference.api.response_format import schema_of
from inference.api.schemas import parse
from inference.api.tool_calls import format_of, frames_of
from inference.engine.grammar import Grammar, Vocabulary, vocabulary_of
from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import ModelUnknownError, RequestError
from inference.loader import LoadedModel

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"


@dataclass(frozen=True, eq=False)
class TextPlan:
    """Prompts as token ids, how many answers to each, and how they are made.

    `sampling` is that of the first answer. Answers are numbered prompt by prompt, and each is
    drawn with the noise of its number. `tool_format` is that of the calls they may hold.
    """

    prompts: tuple[tuple[int, ...], ...]
    sampling: Sampling
    choices: int
    exact: bool = False
    grammar: Grammar | None = None
    tool_format: str = ""

    @property
    def input_ids(self) -> tuple[int, ...]:
        """Return the tokens of all prompts, each once."""
        return tuple(token for prompt in self.prompts for token in prompt)

    @property
    def answers(self) -> int:
        """Return how many answers there are."""
        return len(self.prompts) * self.choices

    @property
    def total(self) -> Sampling:
        """Return the sampling that a receipt states: of the whole call, all answers together."""
        return replace(self.sampling, max_tokens=self.answers * self.sampling.max_tokens)

    def requests(self, payer: str) -> tuple[GenerationRequest, ...]:
        """Return what the engine is asked, answer by answer."""
        return tuple(
            GenerationRequest(
                self.prompts[number // self.choices],
                replace(self.sampling, choice=number),
                payer=payer,
                exact=self.exact,
                constraint=self.grammar.start if self.grammar else None,
            )
            for number in range(self.answers)
        )


def plan_of(path: str, body: bytes, loaded: LoadedModel, *, seed: int) -> TextPlan:
    """Read a request that came to `path`; `seed` where it names none.

    Raises `RequestError` for a request that is refused, `ModelUnknownError` for a path that makes
    no tokens.
    """
    if path == CHAT_PATH:
        return plan_chat(parse(ChatRequest, body), loaded, seed=seed)
    if path == COMPLETIONS_PATH:
        return plan_completion(parse(CompletionRequest, body), loaded, seed=seed)
    raise ModelUnknownError(f"{path:.80} makes no tokens: nothing to replay")


def plan_chat(ask: ChatRequest, loaded: LoadedModel, *, seed: int) -> TextPlan:
    """Return the plan of a chat request. Raises `RequestError` that names a field."""
    tools = ask.offered_tools()
    form = _tool_format(loaded) if tools else ""
    prompt = Prompter(loaded).encode_chat(
        [message.plain() for message in ask.messages], [tool.plain() for tool in tools]
    )
    return TextPlan(
        prompts=(prompt,),
        sampling=ask.sampling(seed=seed),
        choices=ask.choices,
        exact=ask.exact,
        grammar=_grammar(ask, form, loaded),
        tool_format=form,
    )


def plan_completion(ask: CompletionRequest, loaded: LoadedModel, *, seed: int) -> TextPlan:
    """Return the plan of a completion request. Raises `RequestError` that names a field."""
    prompts = tuple(map(Prompter(loaded).encode_text, ask.prompts()))
    return TextPlan(prompts, ask.sampling(seed=seed), ask.choices, ask.exact)


def _tool_format(loaded: LoadedModel) -> str:
    form = format_of(loaded.template) if loaded.template else None
    if form is None:
        raise RequestError(
            f"tools: the chat template of {loaded.name} has no format for them that is known here",
            param="tools",
        )
    return form


def _grammar(ask: ChatRequest, form: str, loaded: LoadedModel) -> Grammar | None:
    if demanded := ask.demanded_tools():
        schemas = {tool.function.name: tool.schema_of_arguments() for tool in demanded}
        frames = frames_of(form, schemas)
        return Grammar.of_framed(_vocabulary(loaded, "tool_choice"), frames, field="tools")
    schema = schema_of(ask.response_format)
    if schema is None:
        return None
    field = "response_format"
    return Grammar.of_schema(_vocabulary(loaded, field), schema, field=field)


def _vocabulary(loaded: LoadedModel, field: str) -> Vocabulary:
    if not loaded.end_ids:
        raise RequestError(f"{field}: model {loaded.name} cannot end an answer", param=field)
    return vocabulary_of(loaded.tokenizer, rows=loaded.vocabulary, ends=loaded.end_ids)
