"""Where markup begins and ends in a source, found in linear time before the library's lexer looks: its patterns may go
over text that is never closed again and again."""

import re
from typing import Any

from liquid import Token

MAX_SOURCE = 16 * 1024
"""Characters."""
MAX_MARKUP = 1000
"""Characters between two delimiters: the lexer may need their square."""
MAX_MARKUPS = 500
"""In one source."""
MAX_BRACKETS = 8
"""In one markup: each may open a path inside of a path."""

_OPENING = re.compile(r"\{[{%]")
_END_OF_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")


class Refused(Exception):
    """A source that cannot be used, or not with these variables."""

    def __init__(self, kind: str, value: Any = None) -> None:
        super().__init__(kind)
        self.reason = (kind, value)
        """As the gateway's `Reason`: `liquid` with (line, what is wrong), `liquid_value` with the line, `liquid_work`,
        `maxLength`. Lines count from 1."""


def check_markups(text: str) -> int:
    """How many there are. Raises `Refused` for what the library's lexer would look at again and again."""
    if len(text) > MAX_SOURCE:
        raise Refused("maxLength", MAX_SOURCE)
    at = count = 0
    while found := _OPENING.search(text, at):
        start, opening = found.start(), found.group()
        closing = "}}" if opening == "{{" else "%}"
        end = text.find(closing, start + 2)
        if end < 0:
            raise _refused(text, start, f"'{opening}' without '{closing}'")
        if end - start > MAX_MARKUP:
            raise _refused(text, start, f"more than {MAX_MARKUP} characters before '{closing}'")
        if text.count("[", start, end) > MAX_BRACKETS:
            raise _refused(text, start, f"more than {MAX_BRACKETS} brackets")
        at, count = end + 2, count + 1
        if count > MAX_MARKUPS:
            raise _refused(text, start, f"more than {MAX_MARKUPS} placeholders and tags")
        if opening == "{%":
            at = _after_raw(text, start, text[start + 2 : end].strip("-").strip(), at)
    return count


def _after_raw(text: str, start: int, name: str, at: int) -> int:
    """Where the lexer goes on. It takes what is between `raw` and `endraw` for text."""
    if name == "doc":
        raise _refused(text, start, "unexpected tag 'doc'")
    if name != "raw":
        return at
    end = _END_OF_RAW.search(text, at)
    if end is None:
        raise _refused(text, start, "'raw' without 'endraw'")
    return end.end()


def _refused(text: str, at: int, why: str) -> Refused:
    return Refused("liquid", (_line_at(text, at), why))


def line_of(text: str, token: Token | None) -> int:
    """1 for an error that has no place."""
    return _line_at(text, token.start_index) if token is not None else 1


def _line_at(text: str, index: int) -> int:
    return text.count("\n", 0, max(index, 0)) + 1
