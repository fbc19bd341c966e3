"""The sandbox for chat templates: programs by a model's publisher that may only make text.

jinja2's immutable sandbox keeps a template from Python's insides. On top of that everything a
template writes, joins and repeats is metered, and only the filters and methods that chat templates
use exist, so that no template can take the node's time or memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import BuiltinMethodType
from typing import Any, Final, NoReturn, TypeVar

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

# What one rendering may make in all: outputs, joins, the results of filters and methods.
MAX_CHARACTERS: Final = 16 * 1024 * 1024
# Rounds of loops and calls of macros; a thousand messages take a few thousand.
MAX_ROUNDS: Final = 200_000
# The largest published templates render a thousand messages in some 20 ms.
MAX_SECONDS: Final = 2.0
_MAX_INTEGER: Final = 2**63
_MAX_INDENT: Final = 8
_FILTERS: Final = frozenset(
    {"abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items"}
    | {"join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr"}
    | {"replace", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title"}
    | {"tojson", "trim", "unique", "upper"}
)
_METHODS: Final = frozenset(
    {"capitalize", "count", "endswith", "find", "get", "index", "isalpha", "isdigit", "isspace"}
    | {"items", "join", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix"}
    | {"replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith"}
    | {"strip", "title", "upper", "values"}
)
_GLOBALS: Final = ("dict", "namespace", "range")
_FORBIDDEN_NODES: Final = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
_SCALARS: Final = (str, int, float, type(None))

Value = TypeVar("Value")


class _Meter:
    """What one rendering has used so far."""

    def __init__(self) -> None:
        self._characters = 0
        self._rounds = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def charge(self, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_CHARACTERS:
            raise SecurityError(f"it makes more than {MAX_CHARACTERS} characters")
        self._check_time()

    def round(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise SecurityError(f"its loops take more than {MAX_ROUNDS} rounds")
        self._check_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS} seconds")


_meter: ContextVar[_Meter] = ContextVar("meter of the rendering under way")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """An environment whose templates are metered; `compile_metered` and `render` are its use."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self) -> None:
        # The white space rules are those under which chat templates are written; nothing is
        # computed while compiling, where no meter runs.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=["jinja2.ext.loopcontrols"],
        )
        self.globals = {name: self.globals[name] for name in _GLOBALS}
        own = {"join": _join, "replace": _replace, "safe": _scalar, "string": _scalar}
        known = {**self.filters, **own, "tojson": _tojson}
        self.filters = {name: known[name] for name in _FILTERS}

    def compile_metered(self, source: str) -> Any:
        """Return a template. Raises jinja2's `TemplateError` for what is not allowed in one."""
        tree = self.parse(source)
        forbidden = next(tree.find_all(_FORBIDDEN_NODES), None)
        if forbidden is not None:
            raise SecurityError(f"line {forbidden.lineno} reads another template")
        code = self.compile(_Metering(self).visit(tree))
        return self.template_class.from_code(self, code, dict(self.globals))

    def render(self, template: Any, variables: Mapping[str, Any]) -> str:
        """Render a template of this sandbox. Raises whatever the template provokes."""
        token = _meter.set(_Meter())
        try:
            return str(template.render(variables))
        finally:
            _meter.reset(token)

    def written(self, value: object) -> str:
        """Meter what a template writes."""
        text = _scalar(value)
        _meter.get().charge(len(text))
        return text

    def round(self) -> None:
        """Meter a round of a loop or a call of a macro."""
        _meter.get().round()

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Let pass the listed methods, and what jinja2's own loop and macro objects offer."""
        if isinstance(value, BuiltinMethodType) and attr not in _METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Stop at once; jinja2 would wait until the value is used, and write nothing for it."""
        raise SecurityError(f"{attribute!r:.60} of a {type(obj).__name__} is not available")

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`, which refuses it: it can pad without end."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute with bounded numbers; join texts and lists at a charge."""
        if operator == "+" and not isinstance(left, int | float):
            return _charged(super().call_binop(context, operator, left, right))
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise SecurityError(f"the operator {operator} is not for {type(left).__name__}")
        result = super().call_binop(context, operator, left, right)
        if abs(result) > _MAX_INTEGER:
            raise SecurityError("a number grows beyond 2^63")
        return result

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls; methods that can multiply their text are replaced."""
        if function in (self.written, self.round):
            return function(*args)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str) and function.__name__ == "join":
            return _join(args[0], owner)
        if isinstance(owner, str) and function.__name__ == "replace":
            return _replace(owner, *args)
        return _charged(super().call(context, function, *args, **kwargs))


class _Metering(NodeTransformer):
    """Puts the meter into a template: around all it writes, into all it repeats."""

    def __init__(self, sandbox: TemplateSandbox) -> None:
        self._sandbox = sandbox

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [self._call("written", child) for child in node.nodes]
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._call("written", node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._counted(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counted(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._counted(node)

    def _counted(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._call("round"), lineno=node.lineno))
        return node  # type: ignore[no-any-return]  # For, Macro and CallBlock share no class

    def _call(self, name: str, *args: nodes.Expr) -> nodes.Call:
        # An attribute of the environment cannot be shadowed by a template's variables.
        call = nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)
        call.set_environment(self._sandbox).set_lineno(1)
        return call


def _charged(value: Value) -> Value:
    if isinstance(value, str | list | tuple | dict):
        _meter.get().charge(len(value))
    return value


def _scalar(value: object) -> str:
    # The text of a list of lists can be exponentially longer than the template that makes it.
    if isinstance(value, (*_SCALARS, Undefined)):
        return str(value)
    raise SecurityError(f"it writes a {type(value).__name__}; only tojson may do that")


def _join(parts: Iterable[object], glue: object = "", attribute: str | None = None) -> str:
    if attribute is not None:
        raise SecurityError("join by attribute is not available")
    pieces = []
    for part in parts:
        pieces.append(_scalar(part))
        _meter.get().charge(len(pieces[-1]) + len(str(glue)))
    return str(glue).join(pieces)


def _replace(text: object, old: str, new: str, count: int = -1) -> str:
    whole = _scalar(text)
    times = whole.count(old) if count < 0 else min(count, whole.count(old))
    _meter.get().charge(len(whole) + times * len(new))
    return whole.replace(old, new, count)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"tojson indents by more than {_MAX_INDENT}")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    pieces = []
    for piece in encoder.iterencode(value):
        _meter.get().charge(len(piece))
        pieces.append(piece)
    return "".join(pieces)
