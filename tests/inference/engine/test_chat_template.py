"""Templates by strangers: they make text, and nothing else."""

from __future__ import annotations

import time

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from inference.engine.chat_template import ChatTemplate
from inference.errors import LoadRefusedError, RequestError
from tests.inference import tiny_models

WORD = "{% set x = 'aaaaaaaaaaaaaaaaaaaaaaaa' %}"


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
    with pytest.raises(LoadRefusedError, match=r"chat_template.jinja: is refused"):
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
        "x" * (256 * 1024 + 1),
    ],
    ids=lambda source: source[:60] + source[-30:],
)
def test_a_template_cannot_take_the_time_or_the_memory(source: str) -> None:
    begin = time.monotonic()
    with pytest.raises(LoadRefusedError, match=r"chat_template.jinja: is"):
        ChatTemplate(source, {})
    # Two seconds are allowed; the rest is what a busy machine may add.
    assert time.monotonic() - begin < 20


def test_a_template_that_is_no_template_is_refused() -> None:
    with pytest.raises(LoadRefusedError, match="is refused"):
        ChatTemplate("{% for %}", {})


def test_messages_that_the_template_refuses_are_the_callers_error() -> None:
    source = "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}ok"
    template = ChatTemplate(source, {})
    message = {"role": "user", "content": "a"}
    assert template.render([message]) == "ok"
    with pytest.raises(RequestError, match="refuses these messages: one only") as caught:
        template.render([message, message])
    assert caught.value.param == "messages"


def test_a_template_cannot_turn_the_meter_off() -> None:
    source = "{% set written = 1 %}{% set round = 1 %}" + WORD + "{% set x = x ~ x %}" * 40
    with pytest.raises(LoadRefusedError, match="characters"):
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
