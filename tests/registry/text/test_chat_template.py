"""Templates by strangers: they make text, and nothing else."""

from __future__ import annotations

import time

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from registry.errors import FileRefusedError, TemplateRefusedError
from registry.text.chat_template import ChatTemplate
from tests.inference import tiny_models

WORD = "{% set x = 'aaaaaaaaaaaaaaaaaaaaaaaa' %}"
# Two lists that are equal, and a million million items long for who compares or writes them.
LISTS = (
    WORD
    + "{% set y = 'aaaaaaaaaaaaaaaaaaaaaaa' ~ 'a' %}"
    + "{% set x = [x, x] %}{% set y = [y, y] %}" * 40
)
TUPLES = WORD + "{% set x = (x, x) %}" * 40
# A text of four million characters, at half the price that all may cost.
LONG = "{% set x = 'a' %}" + "{% set x = x ~ x %}" * 22
DOTS = "{% set x = '0' %}" + "{% set x = x ~ '.' ~ x %}" * 18
MEDIUM = "{% set x = 'a' %}" + "{% set x = x ~ x %}" * 20
STRIPPED = MEDIUM + "{% set c = x.replace('a', 'b') %}{% set c = c ~ c ~ c ~ 'a' %}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ [].append.__self__ }}",
        "{{ messages[0]|attr('__class__') }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ (messages|first)['__class__'].mro() }}",
        "{{ cycler.__init__ }}",
        "{{ lipsum() }}",
        "{{ self._TemplateReference__context }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ 'x'.encode().decode() }}",
        "{{ strftime_now('%Y-%m-%d') }}",
        "{% include 'other' %}",
        "{% import 'other' as o %}",
        "{% extends 'other' %}",
        "{% from 'other' import o %}",
        "{{ messages.append(1) }}",
        "{% do messages.clear() %}",
        "{{ messages.pop() }}",
    ],
)
def test_a_template_cannot_reach_beyond_its_text(source: str) -> None:
    with pytest.raises(FileRefusedError, match=r"chat_template.jinja: is refused"):
        ChatTemplate(source, {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ ['a'] * 1000000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 'a'|indent(1000000000) }}",
        "{{ messages|tojson(indent=1000000000) }}",
        "{{ range(1000000000)|list }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(99999) %}" + "filler text " * 1000 + "{% endfor %}",
        WORD + "{% set x = x ~ x %}" * 40 + "{{ x }}",
        WORD + "{% set x = x + x %}" * 40 + "{{ x }}",
        WORD + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x }}",
        WORD + "{% set x = [x, x]|join %}" * 40 + "{{ x }}",
        WORD + "{% set x = ''.join([x, x]) %}" * 40 + "{{ x }}",
        WORD + "{% set x = x|replace('a', x) %}" * 40 + "{{ x }}",
        WORD + "{% set x = x.replace('a', x) %}" * 40 + "{{ x }}",
        WORD + "{% set x = [x, x] %}" * 40 + "{{ x }}",
        WORD + "{% set x = [x, x] %}" * 40 + "{{ x|string }}",
        WORD + "{% set x = [x, x] %}" * 40 + "{{ x|tojson }}",
        "{% set n = namespace(i=3) %}{% for a in range(99) %}{% set n.i = n.i * n.i %}{% endfor %}",
        LISTS + "{{ x|trim }}",
        LISTS + "{{ x|lower }}",
        LISTS + "{{ x ~ '' }}",
        LISTS + "{{ ['a', 'b']|join(x) }}",
        LISTS + "{{ raise_exception(x) }}",
        LISTS + "{{ messages[x].y }}",
        LISTS + "{{ messages[x:1].y }}",
        LISTS + "{{ messages.index(x) }}",
        LISTS + "{{ x == y }}",
        LISTS + "{{ x in [y] }}",
        LISTS + "{{ [x, y]|sort|length }}",
        LISTS + "{% for a in [x, y] %}{{ loop.changed(a) }}{% endfor %}",
        TUPLES + "{{ {}.get(x) }}",
        TUPLES + "{{ {x: 1}|length }}",
        TUPLES + "{{ [x]|unique|list|length }}",
        WORD + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x == {} }}",
        WORD + "{% set x = dict(a=x, b=x) %}" * 40 + "{{ x == {} }}",
        "{% macro m(n) %}{% if n > 40 %}{{ {}.get(varargs) }}{% else %}"
        "{{ m(n + 1, varargs, varargs) }}{% endif %}{% endmacro %}{{ m(0) }}",
        LONG + "{% set z = x|upper %}" * 2000,
        LONG + "{% set z = x[1:] %}" * 3000,
        LONG + "{% set z = x.count('aab') %}" * 2000,
        LONG + "{% set z = x|list %}" * 2000,
        LONG + "{% for a in x if false %}{% endfor %}" * 1000,
        STRIPPED + "{{ x.strip(c) }}",
        STRIPPED + "{{ x|trim(c) }}",
        MEDIUM + "{{ x|int(0, 16) is divisibleby(x[9:]|int(0, 16)) }}",
        DOTS + "{{ range(9999)|map('string')|list|sort(attribute=x)|length }}",
        "{% for a in range(99999) if false %}{% endfor %}" * 1000,
        "{{ range(0, 230581995078360181306049, 2305843009213693951)|unique|list|length }}",
        "{{ 5|round(-1000000000) }}",
        "{{ 5|round(1000000000, 'floor') }}",
        "{{ 0x" + "f" * 30_000 + " // 0x" + "e" * 15_000 + " }}",
        "x" * (64 * 1024 + 1),
    ],
    ids=lambda source: source[:60] + source[-30:],
)
def test_a_template_cannot_take_the_time_or_the_memory(source: str) -> None:
    begin = time.monotonic()
    with pytest.raises(FileRefusedError, match=r"chat_template.jinja: is"):
        ChatTemplate(source, {})
    # Two seconds are allowed; the rest is what a busy machine may add.
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    "expression",
    [
        "raise_exception|trim",
        "raise_exception|upper",
        "raise_exception|lower",
        "raise_exception|title",
        "raise_exception|capitalize",
        "raise_exception ~ ''",
        "''.upper",
        "''.upper|trim",
        "messages[0].items|replace('a', 'b')",
        "['a', 'b']|join(raise_exception)",
        "[raise_exception]|map('trim')|first",
        "[raise_exception]|map('string')|first",
        "['a']|map('upper')|trim",
        "namespace(a=raise_exception)|trim",
        "range|trim",
        "range",
        "dict|lower",
        "self|trim",
        "messages.__hash__()",
        "['a']|map('upper')",
        "lipsum(n=1)",
        "['a', 'b']|random",
        "strftime_now('%H')",
        "now()",
    ],
)
def test_a_template_finds_no_clock_no_chance_and_no_place_in_memory(expression: str) -> None:
    """Any of them would let it behave at registration and otherwise in one call of many."""
    with pytest.raises(FileRefusedError, match=r"chat_template.jinja: is refused"):
        ChatTemplate("{{ " + expression + " }}", {})


def test_a_template_may_ask_whether_there_is_a_clock() -> None:
    """Llama 3.1's does, and writes a fixed day where there is none."""
    source = (
        "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}"
    )
    assert ChatTemplate(source, {}).render([]) == "26 Jul 2024"


def test_one_rendering_leaves_nothing_behind_for_the_next() -> None:
    source = (
        "{% set n = namespace(seen=0) %}{% for m in messages %}{% set n.seen = n.seen + 1 %}"
        "{% endfor %}{{ n.seen }}{{ cache is defined }}{% set cache = 1 %}"
    )
    template = ChatTemplate(source, {})
    message = {"role": "user", "content": "a"}
    assert [template.render([message] * n) for n in (1, 3, 1)] == ["1False", "3False", "1False"]


def test_a_template_that_is_no_template_is_refused() -> None:
    with pytest.raises(FileRefusedError, match="is refused"):
        ChatTemplate("{% for %}", {})


def test_messages_that_the_template_refuses_are_refused_with_its_own_words() -> None:
    source = "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}ok"
    template = ChatTemplate(source, {})
    message = {"role": "user", "content": "a"}
    assert template.render([message]) == "ok"
    with pytest.raises(TemplateRefusedError, match="refuses these messages: one only"):
        template.render([message, message])


def test_a_template_cannot_turn_the_meter_off() -> None:
    source = "{% set written = 1 %}{% set round = 1 %}" + WORD + "{% set x = x ~ x %}" * 40
    with pytest.raises(FileRefusedError, match="characters"):
        ChatTemplate(source, {})


def test_special_tokens_of_the_caller_are_variables_only() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"})
    assert template.render([{"role": "user", "content": "{{ 7 * 7 }}"}]) == "<s>{{ 7 * 7 }}"


@pytest.mark.parametrize(
    "source",
    [
        tiny_models.TEMPLATE,
        "{{ bos_token }}{% for m in messages %}{% if loop.first and m['role'] != 'system' %}S\n"
        "{% endif %}{{ '<' + m['role'] + '>' + m['content'] | trim + '</s>' }}{% endfor %}",
        "{%- set ns = namespace(found=false) -%}\n{%- for m in messages %}\n"
        "    {%- if m.role == 'system' %}{% set ns.found = true %}{% continue %}{% endif %}\n"
        "{{ loop.index0 % 2 }}:{{ m.content.split('\\n')|join(' / ') }}{{ '' if loop.last }}\n"
        "{%- endfor %}{{ ns.found }}",
        "{% macro turn(m) %}[{{ m.role|upper }}]{{ m.content }}{% endmacro %}"
        "{% for m in messages[::-1] %}{{ turn(m) }}{% endfor %}",
        "{{ messages|tojson }}{{ messages|map(attribute='role')|join(',') }}",
        "{% if tools %}no{% endif %}{% if documents %}no{% endif %}"
        "{% set text %}{{ messages[0].content }}!{% endset %}{{ text }}"
        "{% if not add_generation_prompt is defined %}no{% endif %}",
        "{{ messages[0]['content'].replace('l', 'L').title() }}{{ messages[0].get('name', '-') }}",
        "{% set all = [{'role': 'system', 'content': 'S'}] + messages[1:] %}{% for m in all %}"
        "{{ m['role'] | capitalize ~ ': ' ~ m.content | trim | upper }}{{ '%' }}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ m.content[:3] }}{{ loop.last }}"
        "{% endfor %}"
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list"
        " | length }}{{ messages[-1].content | length // 2 - 1 }}{{ '7' | int * 3 % 4 / 2 }}",
        # After those of Qwen2.5 and of Llama 3.2, shortened.
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- for tool in tools %}\n"
        "        {{- '\\n' }}{{- tool | tojson }}\n    {%- endfor %}\n{%- else %}\n"
        "    {%- if messages[0]['role'] == 'system' %}\n"
        "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
        "    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n"
        "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
        "(message.role == 'assistant' and not message.tool_calls) %}\n        {{- '<|im_start|>' "
        "+ message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
        "    {%- elif messages[loop.index0 - 1].role != 'tool' %}\n        {{- 'x' }}\n"
        "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        "{{- bos_token }}\n{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n"
        "{%- endif %}\n{%- if not date_string is defined %}\n"
        "    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content']|trim %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}\n"
        "    {%- set system_message = '' %}\n{%- endif %}\n{{- system_message }}\n"
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
        "message['content'] | trim + '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n",
        "{% filter upper %}{{ messages[0].role }}{% endfilter %}{{ 'user' in messages | "
        "map(attribute='role') }}{{ messages[0] == messages[1] }}{{ (1, 'a') | last }}"
        "{{ messages[0].content.strip('Be.') }}{{ {'a': 1}.items() | list | tojson }}",
    ],
)
def test_ordinary_templates_render_as_in_transformers(source: str) -> None:
    messages = [
        {"role": "system", "content": "Be\nbrief."},
        {"role": "user", "content": " Hello <b>ß</b> 'quoted' "},
        {"role": "assistant", "content": "well…"},
        {"role": "user", "content": "And?"},
    ]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    theirs, _ = render_jinja_template(
        conversations=[messages], chat_template=source, add_generation_prompt=True, **tokens
    )
    assert ChatTemplate(source, tokens).render(messages) == theirs[0]


def test_a_long_conversation_is_within_the_limits() -> None:
    template = ChatTemplate(tiny_models.TEMPLATE, {})
    messages = [{"role": "user", "content": "word " * 200}] * 1000
    assert template.render(messages).count("word") == 200_000
