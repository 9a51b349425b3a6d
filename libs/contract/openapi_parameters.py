"""What the operations of the REST API have in common in OpenAPI: parameters of path, query and header, and headers."""

from typing import Any

from libs.contract import schemas
from libs.contract.operations import Operation, kind_of, parameters_of, remembers
from libs.contract.schemas import Schema
from libs.ids import UUID_PATTERN

SCHEMAS = "#/components/schemas/{name}"
_ID: Schema = {"type": "string", "format": "uuid", "pattern": UUID_PATTERN}
_NAMED: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
PATH_PARAMETERS: dict[str, tuple[Schema, str, str]] = {
    "{id}": (_ID, "Id of the resource.", "0199a1b2-0000-7000-8000-000000000002"),
    "/subscriptions/imports/{id}": (
        _ID,
        "Id of the import: a UUID that the caller makes up.",
        "0199a1b2-0000-7000-8000-000000000003",
    ),
    "/deletions/{id}": (
        {"type": "string", "pattern": f"^(del-)?{UUID_PATTERN.strip('^$')}$"},
        "`request_id` as the deletion answered it.",
        "del-0199a1b2-0000-7000-8000-000000000004",
    ),
    "/templates/{id}": (_NAMED, "Id of the template, or its name.", "order_confirmation"),
    "/users/{external_id}": (_NAMED, "The application's own id of the user, or our id.", "user_123"),
    "/emergency-stops/{channel}": ({"enum": ["apns", "fcm", "all"]}, "Sender channel, or `all`.", "apns"),
}
"""Schema, meaning and example of the variable parts of paths, by what they name; `{id}`: of any other."""
_VISIBLE = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}
_HEADERS_IN: dict[str, Schema] = {
    "Accept-Language": {
        "description": "`ko`: messages of errors and explanations in Korean; anything else: in English.",
        "schema": {"type": "string"},
        "example": "ko",
    },
    "Idempotency-Key": {
        "description": "Makes a repetition safe: for 24 hours the same key with the same request gets the same answer, "
        "marked `Idempotency-Replayed`, and nothing is done twice.",
        "schema": _VISIBLE,
    },
    "X-Subscription-Secret": {
        "description": "With a `client` key: the secret of the subscription, as its creation answered it.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "`ETag` of the answer that is known already: 304 if it is still the same.",
        "schema": {"type": "string"},
    },
    "If-Modified-Since": {
        "description": "`Last-Modified` of the answer that is known already, where there was one: likewise.",
        "schema": {"type": "string"},
    },
}
_COUNT: Schema = {"anyOf": [{"type": "integer"}, {"const": "unlimited"}]}
_HEADERS_OUT: dict[str, Schema] = {
    "X-Request-Id": {
        "description": "Names this request in our logs; the caller's own if it was sane.",
        "required": True,
    },
    "X-RateLimit-Limit": {"description": "Requests a minute.", "schema": _COUNT},
    "X-RateLimit-Remaining": {"description": "Requests left in this minute.", "schema": _COUNT},
    "X-RateLimit-Reset": {"description": "Unix seconds at which the count begins anew.", "schema": {"type": "integer"}},
    "ETag": {"description": "Changes with the answer."},
    "Last-Modified": {"description": "When that which the answer tells was changed, where that is known."},
    "Retry-After": {"description": "Seconds to wait before a repetition.", "schema": {"type": "integer"}},
    "Idempotency-Replayed": {
        "description": "`true`: the answer of an earlier request with this key.",
        "schema": {"const": "true"},
    },
}
_ALWAYS = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def components() -> dict[str, Any]:
    """Headers of requests and answers, referred to by every operation."""
    return {
        "parameters": {name: {"name": name, "in": "header", **said} for name, said in _HEADERS_IN.items()},
        "headers": {name: {"schema": {"type": "string"}, **said} for name, said in _HEADERS_OUT.items()},
    }


def parameters(operation: Operation) -> list[dict[str, Any]]:
    return [*_in_path(operation), *_in_query(operation), *_in_header(operation)]


def headers(*names: str) -> dict[str, Schema]:
    """Of an answer: those of every answer, and these."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_ALWAYS, *names)}


def _in_path(operation: Operation) -> list[dict[str, Any]]:
    found = []
    for name in parameters_of(operation.path):
        own = PATH_PARAMETERS.get(kind_of(operation.path, name))
        schema, text, example = own or PATH_PARAMETERS[f"{{{name}}}"]
        found.append(
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema, "example": example}
        )
    return found


def _in_query(operation: Operation) -> list[dict[str, Any]]:
    """A query is text: what stands for nothing is left out, so that null is no value of any parameter."""
    if operation.query is None:
        return []
    whole = schemas.definitions([operation.query], SCHEMAS)[operation.query.__name__]
    required = whole["required"]
    found = []
    for name, described in whole["properties"].items():
        schema = _without_null({key: value for key, value in described.items() if key != "description"})
        parameter = {"name": name, "in": "query", "required": name in required, "schema": schema}
        if "description" in described:
            parameter["description"] = described["description"]
        found.append(parameter)
    return found


def _without_null(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    alternatives = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if len(alternatives) == 1:
        return {**kept, **alternatives[0]}
    return {**kept, **({"anyOf": alternatives} if alternatives else {})}


def _in_header(operation: Operation) -> list[dict[str, str]]:
    names = ["Accept-Language"]
    if remembers(operation):
        names.append("Idempotency-Key")
    if "client" in operation.scopes:
        names.append("X-Subscription-Secret")
    if is_conditional(operation):
        names += ["If-None-Match", "If-Modified-Since"]
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def is_conditional(operation: Operation) -> bool:
    return operation.method == "GET" and operation.answer is not None
