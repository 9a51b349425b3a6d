"""The operations of the client SDK (`libs/client/operations.py`), written from the gateway's routes."""

import itertools
from collections.abc import Iterator, Sequence

from libs.contract.operations import Operation, parameters_of, tag_of

_HEAD = '''"""Every operation of the REST API, by resource. Written by `make generate` from the routes: change those."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

{imports}
from libs.client.wire import Request, request

T = TypeVar("T")


class Send(Protocol):
    def __call__(self, request: Request, kind: type[T]) -> T: ...


class AsyncSend(Protocol):
    def __call__(self, request: Request, kind: type[T]) -> Awaitable[T]: ...
'''


def module(operations: Sequence[Operation]) -> str:
    """Python source. Streams are left out: the clients have `upload` and `download` for them."""
    plain = [operation for operation in operations if operation.size != "stream" and operation.answer is not None]
    resources = {name: list(found) for name, found in itertools.groupby(sorted(plain, key=_resource), key=_resource)}
    parts = [_HEAD.format(imports="\n".join(_imports(plain))).replace("Awaitable, Callable", "Awaitable")]
    for prefix in ("", "Async"):
        parts += [_class(prefix, name, found) for name, found in resources.items()]
        parts.append(_facade(prefix, list(resources)))
    return "\n\n".join(parts)


def _resource(operation: Operation) -> str:
    """`messages` for all below `/messages`; `tags` for `/subscriptions/{id}/tags`, which has a file of its own."""
    file = operation.handler.__module__.rpartition(".")[2]
    return file if file in operation.path.split("/") else tag_of(operation).replace("-", "_")


def _imports(operations: Sequence[Operation]) -> Iterator[str]:
    kinds = {kind for each in operations for kind in (each.answer, each.body, each.query) if kind is not None}
    for source, found in itertools.groupby(sorted(kinds, key=_place), key=lambda kind: kind.__module__):
        yield f"from {source} import {', '.join(sorted(kind.__name__ for kind in found))}"


def _place(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__name__


def _class(prefix: str, resource: str, operations: Sequence[Operation]) -> str:
    send = f"{prefix}Send"
    lines = [
        f"class {prefix}{_camel(resource)}Api:",
        f"    def __init__(self, send: {send}) -> None:",
        "        self._send = send",
    ]
    names: set[str] = set()
    for operation in operations:
        name = _name(operation)
        name = f"{name}_{operation.method.lower()}" if name in names else name
        names.add(name)
        lines += ["", *_method(prefix, name, operation)]
    return "\n".join(lines) + "\n"


def _name(operation: Operation) -> str:
    """The handler's, but for what is called the same everywhere."""
    name = operation.handler.__name__
    if name.startswith("list_"):
        return "list"
    return "get" if f"{name}s" == tag_of(operation) else name


def _method(prefix: str, name: str, operation: Operation) -> list[str]:
    given, passed = ["self"], [f'"{operation.method}"', f'"{operation.path}"']
    parameters = parameters_of(operation.path)
    given += [f"{_argument(operation.path, each)}: str" for each in parameters]
    if parameters:
        named = ", ".join(f'"{each}": {_argument(operation.path, each)}' for each in parameters)
        passed.append(f"parameters={{{named}}}")
    if operation.body is not None:
        kind = operation.body.__name__
        given.append(f"body: {kind}" if operation.body_required else f"body: {kind} | None = None")
        passed.append("body=body")
    elif operation.query is not None:
        given.append(f"query: {operation.query.__name__} | None = None")
        passed.append("query=query")
    if operation.method == "POST":
        given += ["*", "idempotency_key: str | None = None"]
        passed.append("idempotency_key=idempotency_key")
    answer = operation.answer.__name__
    asynchronous, wait = ("async ", "await ") if prefix else ("", "")
    return [
        f"    {asynchronous}def {name}({', '.join(given)}) -> {answer}:",
        f'        """{operation.summary}."""',
        f"        return {wait}self._send(request({', '.join(passed)}), {answer})",
    ]


def _argument(path: str, parameter: str) -> str:
    """What a caller calls it: `subscription_id` for the `{id}` of `/subscriptions/{id}`."""
    if parameter != "id":
        return parameter
    return path.partition("/{id}")[0].rpartition("/")[2].removesuffix("s") + "_id"


def _facade(prefix: str, resources: Sequence[str]) -> str:
    lines = [
        f"class {prefix}Operations:",
        '    """All resources."""',
        "",
        f"    def __init__(self, send: {prefix}Send) -> None:",
    ]
    lines += [f"        self.{name} = {prefix}{_camel(name)}Api(send)" for name in resources]
    return "\n".join(lines) + "\n"


def _camel(resource: str) -> str:
    return "".join(part.capitalize() for part in resource.split("_"))
