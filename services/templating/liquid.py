"""Liquid, guarded: what a template's author may write, and what it may cost to render it.

python-liquid does the language; `guard` says what it must not do: tags and filters are an allow-list, names are looked
up in JSON values only, a variable that is missing is an error, and everything is bounded (`Budget`). Text is not
escaped: it goes to push services, not to browsers.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from liquid import BoundTemplate, RenderContext
from liquid.builtin.expressions import FilteredExpression
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.exceptions import (
    LiquidError,
    LiquidInterrupt,
    OutputStreamLimitError,
    ResourceLimitError,
    UndefinedError,
)
from liquid.expression import Expression

from services.templating.budget import Budget, TooMuchWork
from services.templating.filters import FILTERS
from services.templating.guard import ENVIRONMENT, rendered
from services.templating.markup import Refused, check_markups, line_of

_OF_ANY_LIST = frozenset(("size", "first", "last"))
"""What every list has, and strings in part: not names that a variable must bring."""

Names = tuple[str, ...]
"""A variable: `("user", "name")` is `user.name`."""


class Missing(Exception):
    """A variable that the template needs was not given."""

    def __init__(self, variable: str) -> None:
        super().__init__(variable)
        self.variable = variable


class TooLarge(Exception):
    """The text would be larger than any channel carries."""


class Source:
    """One parsed text."""

    __slots__ = ("_template", "_text", "required")

    def __init__(self, text: str, template: BoundTemplate | None, required: tuple[Names, ...]) -> None:
        self._text = text
        self._template = template
        self.required = required
        """Every variable that stands somewhere without a `default` of its own, in the order of the text."""

    def render(self, variables: Mapping[str, Any], budget: Budget) -> str:
        """Raises `Refused`, `Missing`, `TooLarge`."""
        if self._template is None:
            budget.output -= len(self._text.encode())
            if budget.output < 0:
                raise TooLarge
            return self._text
        try:
            return rendered(self._template, variables, budget)
        except TooMuchWork:
            raise Refused("liquid_work") from None
        except UndefinedError as error:
            raise Missing(str(error.message)) from None
        except OutputStreamLimitError:
            raise TooLarge from None
        except ResourceLimitError:
            raise Refused("liquid_work") from None
        except LiquidInterrupt as error:
            raise Refused("liquid", (1, f"unexpected '{error}'")) from None
        # Filters and comparisons end in whatever Python raises for values that do not fit. What it says may hold the
        # values, which are personal: only the place is told.
        except Exception as error:
            token = error.token if isinstance(error, LiquidError) else None
            raise Refused("liquid_value", line_of(self._text, token)) from None


def parse(text: str) -> Source:
    """Raises `Refused`."""
    markups = check_markups(text)
    if markups == 0:
        return Source(text, None, ())
    try:
        template = ENVIRONMENT.from_string(text)
        return Source(text, template, _required(template, text))
    except LiquidError as error:
        raise Refused("liquid", (line_of(text, error.token), str(error.args[0]))) from None


def _required(template: BoundTemplate, text: str) -> tuple[Names, ...]:
    """Raises `Refused` for unknown filters, and for ranges outside of loops: who counts to the end of one?"""
    excused: set[int] = set()
    for expression in _expressions(template):
        if isinstance(expression, RangeLiteral):
            raise Refused("liquid", (line_of(text, expression.token), "a range outside of 'for'"))
        if not isinstance(expression, FilteredExpression) or not expression.filters:
            continue
        for each in expression.filters:
            if each.name not in FILTERS:
                raise Refused("liquid", (line_of(text, each.token), f"unknown filter '{each.name}'"))
        if expression.filters[0].name == "default":
            excused.add(expression.left.token.start_index)
    used = [variable for variables in template.analyze().globals.values() for variable in variables]
    used.sort(key=lambda variable: variable.span.index)
    names = (_names(variable.segments) for variable in used if variable.span.index not in excused)
    return tuple(dict.fromkeys(filter(None, names)))


def _names(segments: Iterable[object]) -> Names:
    """As far as they are plain names: `orders[0].id` needs `orders`; the rest shows when it is rendered."""
    plain = tuple(takewhile(lambda segment: isinstance(segment, str), segments))
    end = next((at for at, name in enumerate(plain) if at and name in _OF_ANY_LIST), len(plain))
    return tuple(str(name) for name in plain[:end])


def _expressions(template: BoundTemplate) -> Iterator[Expression]:
    context = RenderContext(template)
    nodes = deque(template.nodes)
    while nodes:
        node = nodes.popleft()
        nodes.extend(node.children(context))
        left = deque(node.expressions())
        while left:
            expression = left.popleft()
            yield expression
            left.extend(expression.children())
