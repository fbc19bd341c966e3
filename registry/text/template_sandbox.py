"""The sandbox for chat templates: programs by a model's publisher that may only make text.

jinja2's immutable sandbox keeps a template from Python's insides. On top of that everything a
template writes, makes, compares and repeats is metered, and only the filters and methods that chat
templates use exist, so that no template can take the node's time or memory. There is no clock, no
chance and no address of memory in it: the same messages make the same text each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import BuiltinMethodType
from typing import Any, Final, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from registry.text.template_filters import (
    MAX_INTEGER,
    check_stripped,
    join,
    replace,
    safe_filters,
    safe_tests,
)
from registry.text.template_meter import charge, charged, count_round, metered, scalar, weigh

_METHODS: Final = frozenset(
    {"capitalize", "count", "endswith", "find", "get", "index", "isalpha", "isdigit", "isspace"}
    | {"items", "join", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix"}
    | {"replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith"}
    | {"strip", "title", "upper", "values"}
)
_STRIPPING: Final = ("lstrip", "rstrip", "strip")
_GLOBALS: Final = ("dict", "namespace", "range")
_FORBIDDEN_NODES: Final = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """An environment whose templates are metered; `compile_metered` and `render` are its use."""

    intercepted_binops = frozenset({"*", "**", "+", "-", "%", "/", "//"})

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
        self.filters = safe_filters(self.filters)
        self.tests = safe_tests(self.tests)

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
        with metered():
            return str(template.render(variables))

    def written(self, value: object) -> str:
        """Meter what a template writes, or joins to other texts."""
        text = scalar(value)
        charge(len(text))
        return text

    def made(self, value: object) -> object:
        """Meter what an expression makes."""
        return charged(value)

    def round(self) -> None:
        """Meter a round of a loop or a call of a macro."""
        count_round()

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
            return charged(super().call_binop(context, operator, left, right))
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise SecurityError(f"the operator {operator} is not for {type(left).__name__}")
        _check_number(left)
        _check_number(right)
        result = charged(super().call_binop(context, operator, left, right))
        _check_number(result)
        return result

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls; methods that can multiply their text are replaced."""
        if function in (self.written, self.made, self.round):
            return function(*args)
        owner = getattr(function, "__self__", None)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str) and name == "join":
            return join(args[0], owner)
        if isinstance(owner, str) and name == "replace":
            return replace(owner, *args)
        if isinstance(owner, str) and name in _STRIPPING:
            check_stripped(*args)
        if isinstance(function, Macro):
            # It has its arguments as a list, whatever it calls them.
            weigh([*args, *kwargs.values()])
        return charged(super().call(context, function, *args, **kwargs))


class _Metering(NodeTransformer):
    """Puts the meter into a template: around all it makes, into all it repeats."""

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
        node.nodes = [self._call("written", child) for child in node.nodes]
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._made(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._made(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        # Names that are assigned to can stand in one too.
        return self._made(node) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        return self._made(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        # A slice is a copy.
        return self._made(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if isinstance(node.test, nodes.Expr):
            # It may hold for no item, and the body never run.
            node.test = self._call("made", node.test)
        return self._counted(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counted(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._counted(node)

    def _counted(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._call("round"), lineno=node.lineno))
        return node  # type: ignore[no-any-return]  # For, Macro and CallBlock share no class

    def _made(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return self._call("made", node)

    def _call(self, name: str, *args: nodes.Expr) -> nodes.Call:
        # An attribute of the environment cannot be shadowed by a template's variables.
        call = nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)
        call.set_environment(self._sandbox).set_lineno(1)
        return call


def _check_number(number: float) -> None:
    if not abs(number) <= MAX_INTEGER:
        raise SecurityError("a number grows beyond 2^63")
