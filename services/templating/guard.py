"""python-liquid, held back: which tags and filters there are, what names can reach, and what everything costs."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TextIO

from liquid import BoundTemplate, Environment, RenderContext, Token
from liquid.ast import Node
from liquid.builtin.expressions import LoopExpression
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.exceptions import FilterArgumentError
from liquid.expression import Expression
from liquid.output import LimitedStringIO
from liquid.stringify import to_liquid_string
from liquid.token import TOKEN_CONTENT, TOKEN_ILLEGAL, TOKEN_OUTPUT
from liquid.undefined import UNDEFINED, StrictDefaultUndefined
from liquid.utils import ReadOnlyChainMap

from services.templating.budget import MAX_STEPS, Budget, TooMuchWork, size_of
from services.templating.filters import FILTERS, GROWTH, WEIGHTLESS, date

TAGS = frozenset(("if", "unless", "case", "for", "break", "continue", "assign", "capture", "comment", "#"))
"""And `raw`, which is the lexer's."""
PSEUDO_TAGS = frozenset((TOKEN_CONTENT, TOKEN_OUTPUT, TOKEN_ILLEGAL))


def rendered(template: BoundTemplate, variables: Mapping[str, Any], budget: Budget) -> str:
    context = _Context(template, globals=variables)
    context.budget = budget
    buffer = context.get_buffer()
    for node in template.nodes:
        node.render(context, buffer)
    budget.output -= buffer.size
    return buffer.getvalue()


class _Undefined(StrictDefaultUndefined):
    """Its message is the variable's whole path: that is what the caller is told."""


class _Context(RenderContext):
    """Looks names up in the variables alone, and spends the budget wherever the library passes."""

    __slots__ = ("budget",)
    budget: Budget

    def __init__(self, template: BoundTemplate, **options: Any) -> None:
        super().__init__(template, **options)
        self.scope = ReadOnlyChainMap(self.locals, self.globals)  # without `now` and `today`, which are no JSON

    @property
    def disabled_tags(self) -> list[str]:
        """Every node asks for them before it renders: the one place where all of them can be counted."""
        self.budget.spend(1)
        return []

    @disabled_tags.setter
    def disabled_tags(self, _: list[str]) -> None:
        """The base class sets it."""

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        self.budget.spend(1)
        found = super().get(path, token=token, default=default)
        if type(found) is _Undefined:
            object.__setattr__(found, "msg", ".".join(str(segment) for segment in path))
        return found

    def assign(self, key: str, val: Any) -> None:
        self.budget.spend_on(size_of(val))
        self.locals[key] = val

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        return partial(self._filtered, name, super().filter(name, token))

    def _filtered(self, name: str, function: Callable[..., Any], left: Any, *given: Any, **named: Any) -> Any:
        if named and (name != "default" or named.keys() != {"allow_false"}):
            raise FilterArgumentError("unexpected argument", token=None)
        self.budget.spend_on(0 if name in WEIGHTLESS else size_of(left) + sum(map(size_of, given)))
        if name in GROWTH:
            self.budget.spend_on(GROWTH[name](left, *given))
        result = function(left, *given, **named)
        if name not in WEIGHTLESS:
            self.budget.spend_on(size_of(result))
        return result

    def get_buffer(self, buf: TextIO | None = None) -> LimitedStringIO:
        spent = buf.size if isinstance(buf, LimitedStringIO) else 0
        return LimitedStringIO(limit=self.budget.output - spent)


class _Bounded(Expression):
    """What a loop goes through: not more than a message may have steps. The library would walk to an offset, and
    reverse, before it counts."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Expression) -> None:
        super().__init__(inner.token)
        self._inner = inner

    def __str__(self) -> str:
        return str(self._inner)

    def evaluate(self, context: RenderContext) -> object:
        value = self._inner.evaluate(context)
        if isinstance(value, range | list | dict) and len(value) > MAX_STEPS:
            raise TooMuchWork
        return value

    def children(self) -> Iterable[Expression]:
        inner = self._inner
        return [inner.start, inner.stop] if isinstance(inner, RangeLiteral) else [inner]


class _For(ForTag):
    def parse(self, stream: Any) -> Node:
        node = super().parse(stream)
        if isinstance(node, ForNode) and isinstance(node.expression, LoopExpression):
            node.expression.iterable = _Bounded(node.expression.iterable)
        return node


class _OutputNode(OutputNode):
    """Objects have no text of their own; the library would show them as Python does."""

    __slots__ = ()

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value = self.expression.evaluate(context)
        if type(value) is str:
            return buffer.write(value)
        if isinstance(value, Mapping) and type(value) is not _Undefined:
            raise FilterArgumentError("an object is no text", token=self.token)
        if isinstance(value, list):
            return sum(buffer.write(_text(item, self.token)) for item in value)
        return buffer.write(_text(value, self.token))


def _text(value: object, token: Token) -> str:
    if type(value) in (dict, list, tuple):
        raise FilterArgumentError("an object is no text", token=token)
    return to_liquid_string(value, autoescape=False)


class _Output(Output):
    node_class = _OutputNode


class _Environment(Environment):
    block_nesting_limit = 12
    loop_iteration_limit = MAX_STEPS
    suppress_blank_control_flow_blocks = False

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=False)
        self.tags = {name: tag for name, tag in self.tags.items() if name in TAGS | PSEUDO_TAGS}
        self.filters = {name: function for name, function in self.filters.items() if name in FILTERS}
        self.add_tag(_Output)
        self.add_tag(_For)
        self.add_filter("date", date)


ENVIRONMENT = _Environment(undefined=_Undefined)
