"""The filters that templates may use: the library's, but for `date`; none reaches beyond its arguments.

Left out: what makes HTML (`newline_to_br`, `strip_html`), what can bring back U+0000 or other bytes (`url_decode`,
`base64_*`), and what switches escaping off (`safe`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from liquid.exceptions import FilterArgumentError

from services.templating.budget import GRAIN, size_of

TEXT = (
    "append", "capitalize", "downcase", "escape", "escape_once", "lstrip", "prepend", "remove", "remove_first",
    "remove_last", "replace", "replace_first", "replace_last", "rstrip", "slice", "split", "squish", "strip",
    "strip_newlines", "truncate", "truncatewords", "upcase", "url_encode",
)  # fmt: skip
NUMBERS = (
    "abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times",
)  # fmt: skip
LISTS = (
    "compact", "concat", "first", "join", "last", "map", "reverse", "sort", "sort_natural", "sum", "uniq", "where",
)  # fmt: skip
ANY = ("default", "size")
FILTERS = frozenset((*TEXT, *NUMBERS, *LISTS, *ANY, "date"))

WEIGHTLESS = frozenset(("default", "first", "last", "size"))
"""They look at one item at most, however long the list."""

MAX_PATTERN = 64
"""Characters of a date's format: each directive may give 256 times its length."""


def date(value: Any, pattern: Any = "%Y-%m-%d") -> str:
    """`value` as `strftime` writes it: RFC 3339 text, seconds since 1970, `now` or `today`.

    Times without an offset of their own are UTC, so that every replica and the preview agree. What is no time is given
    back as it is, as Liquid does.
    """
    if type(pattern) is not str or len(pattern) > MAX_PATTERN:
        raise FilterArgumentError("a format is at most 64 characters of text", token=None)
    moment = _moment(value)
    return str(value) if moment is None else moment.strftime(pattern)


def _moment(value: Any) -> datetime | None:
    if value in ("now", "today"):
        return datetime.now(UTC)
    try:
        if type(value) is int or (type(value) is str and value.isascii() and value.isdigit()):
            return datetime.fromtimestamp(int(value), UTC)
        if type(value) is str:
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _replaced(left: Any, found: Any, put: Any = "") -> int:
    text = str(left)
    return len(text) + text.count(str(found)) * len(str(put))


def _joined(left: Any, separator: Any = " ") -> int:
    size = size_of(left)
    return size + size // GRAIN * len(str(separator))


GROWTH: Mapping[str, Callable[..., int]] = {"replace": _replaced, "join": _joined}
"""Size of the result, known before it is made: only these give more than a few times what they are given."""
