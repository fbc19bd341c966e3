"""Tools in chat templates: shown as transformers shows them, inside the same sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from registry.errors import TemplateRefusedError
from registry.text.chat_template import ChatTemplate

# After those of Qwen2.5 and of Llama 3.1, shortened.
QWEN = (
    "{%- if tools %}{{- '# Tools\\n<tools>' }}{%- for tool in tools %}\n        {{- '\\n' }}"
    "{{- tool | tojson }}{%- endfor %}{{- '\\n</tools>\\nin <tool_call></tool_call>:\\n"
    '{\\"name\\": <name>, \\"arguments\\": <object>}\' }}{%- endif %}\n'
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'user' or (message.role == 'assistant' and not "
    "message.tool_calls) %}{{- message.role + message.content + '\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}{%- for tool_call in message.tool_calls %}\n"
    "        {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}"
    '{%- endif %}\n        {{- \'<tool_call>{"name": "\' }}{{- tool_call.name }}'
    "{{- '\", \"arguments\": ' }}{{- tool_call.arguments | tojson }}{{- '}</tool_call>' }}"
    "{%- endfor %}\n    {%- elif message.role == 'tool' %}{{- message.content }}{%- endif %}\n"
    "{%- endfor %}"
)
LLAMA = (
    "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}\n"
    '{%- if tools is not none %}{{- \'{"name": function name, "parameters": object}\' }}'
    "{%- for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}{%- endif %}\n"
    "{%- for message in messages %}\n    {%- if not (message.role == 'tool' or 'tool_calls' in "
    "message) %}{{- message['content'] | trim }}\n    {%- elif 'tool_calls' in message %}\n"
    "        {%- if not message.tool_calls|length == 1 %}"
    "{{- raise_exception('only single calls') }}{%- endif %}\n"
    "        {%- set tool_call = message.tool_calls[0].function %}"
    '{{- \'{"name": "\' + tool_call.name + \'", "parameters": \' }}'
    "{{- tool_call.arguments | tojson }}{{- '}' }}\n    {%- else %}{{- message.content }}"
    "{%- endif %}\n{%- endfor %}"
)
PARAMETERS = {"type": "object", "properties": {"at": {"type": "string", "enum": ["é", "<b>"]}}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}]
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": 1.5}}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Look."},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "seen"},
]


@pytest.mark.parametrize(
    "source",
    [
        "{{ tools }}",
        "{% for tool in tools or [] %}{{ tool.pop('type') }}{% endfor %}",
        "{% if tools %}{{ tools.append(1) }}{% endif %}",
        "{% for a in tools or [] %}{% for b in range(99999) %}{{ a | tojson }}{% endfor %}"
        "{% endfor %}",
        "{{ (tools or [{}])[0].__class__ }}",
    ],
)
def test_a_template_can_do_nothing_else_with_tools(source: str) -> None:
    with pytest.raises(TemplateRefusedError):
        ChatTemplate("{% if messages[0].content == 'Look.' %}" + source + "{% endif %}", {}).render(
            MESSAGES, TOOLS
        )


def test_the_template_s_own_refusal_of_calls_is_told() -> None:
    twice = [MESSAGES[0], {**MESSAGES[1], "tool_calls": [CALL, CALL]}]
    with pytest.raises(TemplateRefusedError, match="only single calls"):
        ChatTemplate(LLAMA, {}).render(twice, TOOLS)


@pytest.mark.parametrize("source", [QWEN, LLAMA])
@pytest.mark.parametrize("tools", [None, TOOLS, TOOLS * 2])
def test_tools_and_calls_are_rendered_as_in_transformers(source: str, tools: Any) -> None:
    theirs, _ = render_jinja_template(
        conversations=[MESSAGES], tools=tools, chat_template=source, add_generation_prompt=True
    )
    assert ChatTemplate(source, {}).render(MESSAGES, tools) == theirs[0]


def test_what_was_handed_in_is_not_changed() -> None:
    before = repr((MESSAGES, TOOLS))
    ChatTemplate(QWEN, {}).render(MESSAGES, TOOLS)
    assert repr((MESSAGES, TOOLS)) == before


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        (QWEN, True),
        (LLAMA, True),
        ("{{ messages[0].content }}", False),
        ("{% set tools = [] %}{% if tools %}x{% endif %}", False),
        ("tools {# tools #}", False),
    ],
)
def test_a_template_takes_tools_if_it_looks_them_up(source: str, takes: bool) -> None:
    assert ChatTemplate(source, {}).takes_tools is takes
