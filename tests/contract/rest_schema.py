"""Answers judged by the OpenAPI document."""

from functools import cache
from typing import Any

import jsonschema_rs

from services.ingest import docs
from services.ingest.routes import PREFIX, ROUTES
from tests.contract.rest_requests import OPERATIONS, Reply

DOCUMENT: dict[str, Any] = docs.document(ROUTES, PREFIX, "0")


def check(identifier: str, reply: Reply) -> None:
    """The status is documented, and the content fits its schema, without fields that the schema does not name."""
    route = OPERATIONS[identifier]
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert str(reply.status) in operation["responses"], f"{identifier}: {reply.status} {reply.content[:500]!r}"
    content = operation["responses"][str(reply.status)].get("content", {})
    given = reply.headers.get("Content-Type", "").partition(";")[0]
    if not content:
        assert not reply.content
        return
    assert given in content, f"{identifier}: {given}"
    if given == "application/json":
        validator(identifier, str(reply.status)).validate(reply.body)


@cache
def validator(identifier: str, status: str) -> jsonschema_rs.Draft202012Validator:
    route = OPERATIONS[identifier]
    response = DOCUMENT["paths"][route.path][route.method.lower()]["responses"][status]
    schema = response["content"]["application/json"]["schema"]
    closed = {"components": {"schemas": _closed(DOCUMENT["components"]["schemas"])}}
    return jsonschema_rs.Draft202012Validator({**closed, **schema}, validate_formats=True)


def _closed(part: Any) -> Any:
    """Objects with named fields have no others: an answer that says more than its schema is a mistake here."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {name: _closed(item) for name, item in part.items()}
    if part.get("type") == "object" and isinstance(part.get("properties"), dict) and part.get("required") is not None:
        found.setdefault("additionalProperties", False)
    return found
