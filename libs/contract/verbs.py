"""The verbs that services answer, read from the first line of each request's docstring in `libs.rpc`."""

import re
from typing import NamedTuple

import msgspec

from libs import rpc
from libs.contract.notes import summary
from libs.errors import BY_CODE

_VERB = re.compile(r"(?P<service>[a-z]+)\.(?P<verb>[a-z_]+) -> (?P<reply>\w+)")
_RAISES = re.compile(r"raises ([a-z_]+(?:, [a-z_]+)*)")


class Verb(NamedTuple):
    """`signal.rpc.<service>.<name>`."""

    service: str
    name: str
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    errors: tuple[str, ...]
    """Codes of `libs.errors` beside those that any call may end with."""
    text: str


def verbs() -> list[Verb]:
    """All of them, by service, and of each in the order of `libs.rpc`."""
    structs = {name: kind for name, kind in vars(rpc).items() if isinstance(kind, type(msgspec.Struct))}
    found = []
    for kind in structs.values():
        text = summary(kind)
        if match := _VERB.match(text):
            found.append(Verb(match["service"], match["verb"], kind, structs[match["reply"]], _errors(text), text))
    return sorted(found, key=lambda verb: verb.service)


def _errors(text: str) -> tuple[str, ...]:
    match = _RAISES.search(text)
    return tuple(code for code in match[1].split(", ") if code in BY_CODE) if match else ()
