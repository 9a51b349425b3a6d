"""Where requests hold ids: in the path, the query or the body. Read from the OpenAPI document, so that none escapes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from libs.contract.operations import kind_of, parameters_of
from libs.ids import UUID_PATTERN
from tests.contract.rest_requests import IN_FIELD, IN_PATH, OPERATIONS, SPECIAL, Maker, Request
from tests.contract.rest_schema import DOCUMENT

NO_RESOURCE = {
    "application_id": "the caller's own, or refused with 403 whosever it is",
    "channel": "a name that every application has",
    "channel_id": "a notification channel of the app on the device",
    "cursor": "a position in the caller's own list",
    "team_id": "at Apple",
    "key_id": "at Apple",
    "project_id": "at Google",
    "private_key_id": "at Google",
    "client_id": "at Google",
}
"""Fields that look like ids and name nothing that an application has."""
INSTEAD_OF = {
    "subscription_id": {"user_id", "external_id"},
    "user_id": {"subscription_id", "external_id"},
    "external_id": {"subscription_id", "user_id"},
    "template_id": {"title", "body", "data"},
}
"""A message has one kind of recipient, and one source of what it says: who names another takes this one away."""


class Place(NamedTuple):
    identifier: str
    part: str
    """`path`, `query` or `body`."""
    name: str
    """Dots lead to what is nested; lists on the way are gone through."""

    def __str__(self) -> str:
        return f"{self.identifier} {self.part}:{self.name}"

    @property
    def field(self) -> str:
        return self.name.rpartition(".")[2]

    def maker(self) -> Maker | None:
        """What makes such a thing; None: nobody said it."""
        if (self.identifier, self.name) in SPECIAL:
            return SPECIAL[self.identifier, self.name]
        if self.part == "path":
            return IN_PATH.get(kind_of(OPERATIONS[self.identifier].path, self.name))
        return IN_FIELD.get(self.field)

    def filled(self, request: Request, value: str) -> Request:
        """The request with `value` in this place."""
        if self.part == "query":
            return request.but(query={**request.query, self.name: value})
        if self.part == "body":
            return request.but(body=_put(request.body or {}, self.name.split("."), value))
        steps = zip(OPERATIONS[self.identifier].path.split("/"), request.path.split("/"), strict=True)
        return request.but(path="/".join(value if wanted == f"{{{self.name}}}" else given for wanted, given in steps))


def places() -> list[Place]:
    found = []
    for identifier, route in OPERATIONS.items():
        found += [Place(identifier, "path", name) for name in parameters_of(route.path)]
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        for parameter in operation.get("parameters", []):
            if parameter.get("in") == "query" and _holds_id(parameter["name"], parameter["schema"]):
                found.append(Place(identifier, "query", parameter["name"]))
        if route.body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            found += [Place(identifier, "body", name) for name in _named(schema)]
    return [place for place in found if place.field not in NO_RESOURCE]


def _named(schema: Any, *above: str) -> Iterator[str]:
    schema = _resolved(schema)
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _named(each, *above)
    if "items" in schema:
        yield from _named(schema["items"], *above)
    for name, said in schema.get("properties", {}).items():
        if _holds_id(name, said):
            yield ".".join([*above, name])
        else:
            yield from _named(said, *above, name)


def _holds_id(name: str, schema: Any) -> bool:
    return name in IN_FIELD or name.endswith(("_id", "_ids", "cursor")) or UUID_PATTERN in str(schema)


def _resolved(schema: Any) -> Any:
    if "$ref" not in schema:
        return schema
    return DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def _put(body: Any, steps: list[str], value: str) -> Any:
    if isinstance(body, list):
        return [_put(item, steps, value) for item in body]
    first, *rest = steps
    kept = {name: item for name, item in body.items() if name not in INSTEAD_OF.get(first, ())}
    if rest:
        return {**kept, first: _put(body.get(first, {}), rest, value)}
    return {**kept, first: [value] if isinstance(body.get(first), list) or first.endswith("_ids") else value}
