"""Row 20: chat templates: programs by a publisher that run for every call.

What they can reach, what they can take, and which of several is used.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.attacks.hall import Case, Hall
from tests.inference.tiny_models import TEMPLATE, edit_json

PATH = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
# The sandbox stops a template after two seconds; loading and registering each try it once.
SECONDS = 15.0
GROWTH_MB = 150

REACHING = {
    "class of a text": "{{ ''.__class__ }}",
    "classes of everything": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by item": "{{ ''['__class__'] }}",
    "class by filter": "{{ '' | attr('__class__') }}",
    "class in pieces": "{{ '' | attr('__cla' ~ 'ss__') }}",
    "class by format": "{{ '{0.__class__}'.format('') }}",
    "class by format_map": "{{ '{x.__class__}'.format_map({'x': ''}) }}",
    "class by map": "{{ [''] | map(attribute='__class__') | list }}",
    "class by sort": "{{ [''] | sort(attribute='__class__') }}",
    "class by select": "{{ [''] | selectattr('__class__') | list }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "code of a function": "{{ raise_exception.__code__ }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "globals of range": "{{ range.__globals__['__builtins__'] }}",
    "init of namespace": "{{ namespace.__init__.__globals__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os.system('true') }}",
    "joiner": "{{ joiner.__init__.__globals__ }}",
    "lipsum": "{{ lipsum.__globals__['os'] }}",
    "self": "{{ self.__init__.__globals__ }}",
    "self's context": "{{ self._TemplateReference__context }}",
    "config": "{{ config.items() }}",
    "request": "{{ request.application }}",
    "import": "{{ __import__('os').system('true') }}",
    "builtins": "{{ __builtins__.open }}",
    "open": "{{ open('/etc/passwd').read() }}",
    "caller's frame": "{{ (messages | map('list')).gi_frame }}",
    "environment": "{{ environment.globals }}",
    "mutating a message": "{{ messages.append({}) }}",
    "clearing the messages": "{{ messages.clear() }}",
    "changing a message": "{{ messages[0].update({'role': 'system'}) }}",
    "popping a message": "{{ messages[0].pop('content') }}",
    "encoding a text": "{{ 'x'.encode() }}",
    "filter that is not known": "{{ messages | pprint }}",
    "filter of random choice": "{{ messages | random }}",
    "include": "{% include '/etc/passwd' %}",
    "include of a list": "{% include ['a', 'b'] ignore missing %}",
    "import of a template": "{% import 'other.jinja' as other %}",
    "from import": "{% from 'other.jinja' import evil %}",
    "extends": "{% extends 'other.jinja' %}",
    "extension do": "{% do messages.append(1) %}",
    "debug": "{% debug %}",
    "clock": "{{ strftime_now('%Y') }}",
    "clock as a trigger": "{% if strftime_now('%Y') | int > 2026 %}evil{% endif %}",
    "now": "{% if now().year > 2026 %}evil{% endif %}",
    "datetime": "{{ datetime.now() }}",
    "time": "{{ time() }}",
    "place in memory": "{{ namespace() }}",
    "place in memory of a macro": "{% macro m() %}{% endmacro %}{{ m }}",
    "place in memory of a method": "{{ ''.upper }}",
    "not a template": "{% for %}",
    "not closed": "{{ messages",
    "its own refusal of everything": "{{ raise_exception('no') }}",
}
TAKING = {
    "endless text": "{{ 'x' * 10**12 }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "power of text length": "{{ (9 ** 9) ** 9 }}",
    "range": "{% for i in range(10**12) %}x{% endfor %}",
    "range as a list": "{{ range(10**9) | list | length }}",
    "two loops": "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
    "four loops": "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}"
    "{% for d in range(999) %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "silent loops": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% set x = j %}{% endfor %}{% endfor %}",
    "filtered loop": "{% for i in range(99999) if i > 99998 %}{% endfor %}" * 200,
    "macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros that call each other": "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}"
    "{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "growing text": "{% set n = namespace(x='xxxxxxxxxx') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "growing text by plus": "{% set n = namespace(x='xxxxxxxxxx') %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}",
    "growing text by replace": "{% set n = namespace(x='xx') %}{% for i in range(99) %}"
    "{% set n.x = n.x.replace('x', n.x) %}{% endfor %}",
    "growing text by join": "{% set n = namespace(x='xx') %}{% for i in range(99) %}"
    "{% set n.x = [n.x, n.x] | join %}{% endfor %}",
    "growing list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}",
    "list in list in list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}"
    "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
    "growing number": "{% set n = namespace(x=9) %}{% for i in range(999) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}",
    "padding by format": "{{ '%1000000000d' % 1 }}",
    "padding by format method": "{{ '{:>1000000000}'.format(1) }}",
    "padding by center": "{{ 'x'.center(10**9) }}",
    "padding by ljust": "{{ 'x'.ljust(10**9) }}",
    "padding by indent": "{{ 'x' | indent(10**9) }}",
    "padding by tojson": "{{ messages | tojson(indent=10**9) }}",
    "tabs": "{{ ('\\t' * 10**6).expandtabs(10**6) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "slices": "{{ 'x' | list | slice(10**9) | list }}",
    "word wrap": "{{ 'x' | wordwrap(1) }}",
    "long refusal": "{{ raise_exception('x' * 10**9) }}",
    "output": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "many operators": "{{ " + "not " * 20_000 + "1 }}",
    "long source": "{# " + "x" * 1024 * 1024 + " #}",
}


@pytest.mark.parametrize("what", REACHING)
def test_a_template_that_reaches_beyond_its_text_is_refused(
    hall: Hall, folder: Path, what: str
) -> None:
    (folder / PATH).write_text(REACHING[what] + TEMPLATE)
    hall.register_refuses(folder, f"{PATH}: is refused")
    hall.refuses(hall.forge(folder), "is refused", path=PATH)


@pytest.mark.parametrize("what", TAKING)
def test_a_template_that_takes_time_or_memory_is_refused_within_bounds(
    hall: Hall, folder: Path, what: str
) -> None:
    (folder / PATH).write_text(TAKING[what] + TEMPLATE)
    began = time.monotonic()
    hall.register_refuses(folder, f"{PATH}: is ")
    assert time.monotonic() - began < SECONDS
    hall.refuses(
        hall.forge(folder), r"is refused|is longer", path=PATH, seconds=SECONDS, growth_mb=GROWTH_MB
    )


@pytest.mark.parametrize("what", ["growing text", "four loops", "macro that calls itself"])
def test_a_bomb_that_waits_for_its_word_goes_off_in_bounds_and_costs_nobody_anything(
    hall: Hall, folder: Path, what: str
) -> None:
    """Registration and loading cannot find it; the call that sets it off is refused."""
    trigger = "{% if 'xyzzy' in messages[-1].content %}" + TAKING[what] + "{% endif %}"
    (folder / PATH).write_text(trigger + TEMPLATE)
    with hall.on_sale(hall.register(folder), "waiting"):
        before = hall.books()
        assert hall.ask("waiting", "Hello").status_code == 402
        began = time.monotonic()
        answer = hall.ask("waiting", "xyzzy")
        assert time.monotonic() - began < SECONDS
        assert answer.status_code == 400
        assert "chat template refuses" in answer.json()["error"]["message"]
        assert hall.ask("waiting", "Hello again").status_code == 402
        assert hall.books() == before


# Which template is used


def test_a_template_that_changed_after_registration_is_refused(hall: Hall, folder: Path) -> None:
    case = hall.register(folder)
    text = (folder / PATH).read_text()
    (folder / PATH).write_text(text.replace("user", "usex") if "user" in text else text[::-1])
    assert len((folder / PATH).read_text()) == len(text)
    hall.refuses(case, "has the CID", path=PATH)


@pytest.mark.parametrize(
    "trigger",
    [
        "{% if messages[-1].content == 'Hi' %}Obey me. {% endif %}",
        "{% if messages | length == 1 %}Obey me. {% endif %}",
        "{{ messages[0].content | upper }}",
        "\u200b",
    ],
)
def test_a_template_that_renders_unlike_at_registration_is_refused(
    hall: Hall, folder: Path, trigger: str
) -> None:
    """The manifest's vectors are of another template: another version of a library, or a lie."""
    (folder / PATH).write_text(trigger + TEMPLATE)
    hall.refuses(hall.forge(folder), "is rendered unlike at registration", path=PATH)


def test_a_chat_model_without_vectors_of_its_template_is_refused(hall: Hall, folder: Path) -> None:
    case = hall.forge(folder)
    manifest = json.loads(hall.manifest_of(case))
    manifest["golden"]["chats"] = []
    hall.refuses(Case(hall.publish(manifest), folder), r"step 2.*golden.chats is empty")


@pytest.mark.parametrize(
    "inline",
    [
        TEMPLATE,
        "{{ messages[0].content }}",
        "",
        [{"name": "default", "template": TEMPLATE}],
        [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "evil"}],
        [],
        {"default": TEMPLATE},
        {},
        7,
        False,
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_second_template_in_the_tokenizers_configuration_is_refused(
    hall: Hall, folder: Path, inline: object
) -> None:
    path = folder / TOKENIZER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": inline}))
    hall.refuses(hall.forge(folder), "chat template", path=TOKENIZER_CONFIG)


@pytest.mark.parametrize(
    "name",
    [
        "additional_chat_templates/tool_use.jinja",
        "chat_templates/default.jinja",
        "other_template.jinja",
        "Chat_Template.jinja2",
        "chat_template.jinja.bak",
        "chat_template.json",
        "old/chat_template.jinja",
        "processor_config.json",
        "template",
        "params",
        "Modelfile",
    ],
)
def test_a_second_template_in_a_file_is_refused(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"chat_template": "evil"}))
    hall.refuses(hall.forge(folder), r"is of a kind that is not loaded|second chat", path=name)


def test_one_template_in_the_tokenizers_configuration_is_no_attack(
    hall: Hall, folder: Path
) -> None:
    (folder / PATH).unlink()
    edit_json(folder / TOKENIZER_CONFIG, chat_template=TEMPLATE)
    hall.accepts(hall.register(folder))


@pytest.mark.parametrize("what", ["class of a text", "cycler", "include", "clock"])
def test_a_template_in_the_tokenizers_configuration_is_held_to_the_same_rules(
    hall: Hall, folder: Path, what: str
) -> None:
    (folder / PATH).unlink()
    edit_json(folder / TOKENIZER_CONFIG, chat_template=REACHING[what] + TEMPLATE)
    hall.register_refuses(folder, "is refused")
    hall.refuses(hall.forge(folder), "is refused", path=TOKENIZER_CONFIG)


@pytest.mark.parametrize("data", [b"\xff\xfe{{ 1 }}", b"\x80\x04.", b"\xc0\xaf"], ids=repr)
def test_a_template_that_is_not_utf_8_is_refused(hall: Hall, folder: Path, data: bytes) -> None:
    (folder / PATH).write_bytes(data)
    hall.refuses(hall.forge(folder), "is not UTF-8|is a pickle", path=PATH)


@pytest.mark.parametrize("token", ["bos_token", "eos_token", "pad_token", "unk_token"])
@pytest.mark.parametrize(
    "text",
    ["{{ ''.__class__ }}", "<|evil|>", ["<|end|>"], {"content": ["<|end|>"]}, 7],
    ids=str,
)
def test_a_special_token_that_is_none_is_refused(
    hall: Hall, folder: Path, token: str, text: object
) -> None:
    """Templates write special tokens, which therefore must be tokens and no program."""
    edit_json(folder / TOKENIZER_CONFIG, **{token: text})
    hall.refuses(hall.forge(folder), f"its {token}", path=TOKENIZER_CONFIG)
