"""One request and its answer, as the endpoint hands them to handlers; and what handlers work with."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

from libs.bus import Bus
from libs.errors import ResourceNotFound
from libs.ids import is_id
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Caller, Keys
from services.ingest.errors import Language
from services.ingest.recipients import Recipients
from services.ingest.render import Answer

Scope = Literal["send", "read", "manage"]
Size = Literal["single", "batch"]


class Gateway(NamedTuple):
    bus: Bus
    keys: Keys
    recipients: Recipients
    acceptor: Acceptor


class Call(NamedTuple):
    """An authenticated request, its body read."""

    request_id: str
    caller: Caller
    language: Language
    method: str
    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def id(self) -> str:
        """The `{id}` of the path. Raises `ResourceNotFound` for what cannot be an id: nothing has it."""
        text = self.parameters["id"]
        if len(text) != 36 or not is_id(text):
            raise ResourceNotFound(id=text[:64])
        return text.lower()


Handler = Callable[[Gateway, Call], Awaitable[Answer]]


class Route(NamedTuple):
    method: Literal["GET", "POST"]
    path: str
    scope: Scope
    handler: Handler
    size: Size = "single"
