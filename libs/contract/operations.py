"""Operations of the REST API, as the documents and the tests see them: what a route says, and what follows from it."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, get_args

import msgspec

from libs.rpc import Scope

EVERY_SCOPE: tuple[Scope, ...] = get_args(Scope)
_IN_PATH = re.compile(r"\{(\w+)\}")


class Operation(Protocol):
    """The routes of the gateway are such; what each part means is explained there."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...
    @property
    def handler(self) -> Callable[..., Any]: ...
    @property
    def answer(self) -> Any: ...
    @property
    def status(self) -> int: ...
    @property
    def other_statuses(self) -> Sequence[int]: ...
    @property
    def body(self) -> type[msgspec.Struct] | None: ...
    @property
    def body_required(self) -> bool: ...
    @property
    def query(self) -> type[msgspec.Struct] | None: ...
    @property
    def errors(self) -> Sequence[str]: ...
    @property
    def size(self) -> str: ...
    @property
    def repeat(self) -> str: ...
    @property
    def audit(self) -> str | None: ...
    @property
    def example(self) -> Any: ...
    @property
    def media_types(self) -> Sequence[str]: ...


class Text(Protocol):
    """An error code's HTTP status and its message in English and Korean."""

    @property
    def status(self) -> int: ...
    @property
    def en(self) -> str: ...
    @property
    def ko(self) -> str: ...


def tag_of(operation: Operation) -> str:
    """The resource: the first part of the path."""
    return operation.path.split("/")[1]


def parameters_of(path: str) -> list[str]:
    """Names of the variable parts of a path."""
    return _IN_PATH.findall(path)


def kind_of(path: str, parameter: str) -> str:
    """What a variable part of a path names: the path up to it, such as `/subscriptions/{id}`."""
    before, found, _ = path.partition(f"{{{parameter}}}")
    return before + found


def identifiers(operations: Sequence[Operation]) -> list[str]:
    """One name for each, made of the path and the handler: `subscriptions_create`, `subscriptions_tags_add`.

    What the handler's name says already is left out: `messages_cancel`. Where they say the same of several operations,
    the later ones get their method too: `subscriptions_update_put`.
    """
    found: list[str] = []
    for operation in operations:
        handler = operation.handler.__name__
        collection, *rest = [each.replace("-", "_") for each in operation.path[1:].split("/") if each[0] != "{"]
        name = "_".join([collection, *(each for each in rest if each not in handler), handler])
        found.append(f"{name}_{operation.method.lower()}" if name in found else name)
    return found


def takes_body(operation: Operation) -> bool:
    return operation.body is not None or reads_stream(operation)


def reads_stream(operation: Operation) -> bool:
    """Whether the body is read piece by piece, as with an import."""
    return operation.size == "stream" and operation.body is None and operation.method != "GET"


def remembers(operation: Operation) -> bool:
    """Whether an Idempotency-Key does anything."""
    return operation.method == "POST" and operation.repeat != "pure"


def codes_of(operation: Operation) -> tuple[str, ...]:
    """Every error code that the operation may answer: those of any operation like it, then its own."""
    codes = ["authentication_failed", "validation_error"]
    if set(operation.scopes) != set(EVERY_SCOPE):
        codes.append("permission_denied")
    if takes_body(operation):
        codes += ["invalid_request", "unsupported_media_type"]
        if not reads_stream(operation):
            codes.append("payload_too_large")
    if remembers(operation):
        codes.append("idempotency_key_reused")
    codes += ["rate_limit_exceeded", "internal_server_error", "service_unavailable"]
    return tuple(dict.fromkeys([*codes, *operation.errors]))
