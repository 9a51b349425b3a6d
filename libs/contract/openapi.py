"""OpenAPI 3.1 of the REST API, written from the gateway's routes, the structs of `libs.api`, and their docstrings."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.contract import openapi_errors, openapi_parameters, schemas
from libs.contract.openapi_parameters import SCHEMAS, headers, is_conditional
from libs.contract.openapi_samples import sample
from libs.contract.operations import (
    Operation,
    Text,
    identifiers,
    kind_of,
    parameters_of,
    remembers,
    tag_of,
    takes_body,
)
from libs.contract.schemas import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON = "application/json"
Named = Sequence[tuple[str, Operation]]
"""Operations with their ids."""
DESCRIPTION = """\
A multi-channel messaging platform: applications register how their users can be reached, and send them messages.

Every answer is `{"status": "success", "data": …}` or `{"status": "error", "error": {"code", "message", "details"}}`, \
carries `X-Request-Id`, and for a known key the rate limit headers. Messages of errors are English, or Korean with \
`Accept-Language: ko`; the codes are the same. Ids are UUIDs; what belongs to another application does not exist. A \
path answers 405 `method_not_allowed`, with `Allow`, to methods that it does not have.

Scopes of a key: `send` sends messages, `read` reads, `manage` changes everything else, `client` is for the key in an \
app: it registers the app's own subscription, and afterwards carries that subscription's secret."""


def document(
    version: str, operations: Sequence[Operation], texts: Mapping[str, Text], examples: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """The whole. `texts` and `examples` are of the error codes: what they say, and `details` that they may carry."""
    named = list(zip(identifiers(operations), operations, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    known = {**_schemas(operations), **openapi_errors.SCHEMAS}
    for identifier, operation in named:
        place = paths.setdefault(operation.path, {})
        place[operation.method.lower()] = _operation(identifier, operation, texts, named, known)
    found = {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "Automata Signal",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix}],
        "tags": _tags(operations),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "ApiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "`automata key create` makes one; each operation names the scopes that may call it.",
                }
            },
            **openapi_parameters.components(),
            "examples": openapi_errors.examples(texts, examples),
            "schemas": dict(sorted(known.items())),
        },
    }
    written: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(found)
    )  # a default may be a tuple: a list in JSON
    return written


def _schemas(operations: Sequence[Operation]) -> dict[str, Schema]:
    kinds = [kind for operation in operations for kind in (operation.body, operation.answer) if kind is not None]
    return schemas.definitions(list(dict.fromkeys(kinds)), SCHEMAS)


def _tags(operations: Sequence[Operation]) -> list[dict[str, str]]:
    """A resource is explained by the first line of the file whose handlers answer it."""
    first = {tag_of(operation): operation for operation in reversed(operations)}
    found = {tag: inspect.getdoc(sys.modules[each.handler.__module__]) or "" for tag, each in first.items()}
    return [
        {"name": tag, "description": found[tag].partition("\n")[0]} for tag in dict.fromkeys(map(tag_of, operations))
    ]


def _operation(
    identifier: str, operation: Operation, texts: Mapping[str, Text], named: Named, known: Mapping[str, Schema]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": identifier,
        "tags": [tag_of(operation)],
        "summary": operation.summary,
        "description": _description(operation),
        "x-scopes": list(operation.scopes),
        "security": [{"ApiKey": [scope]} for scope in operation.scopes],
    }
    found["parameters"] = openapi_parameters.parameters(operation)
    if takes_body(operation):
        found["requestBody"] = _body(operation)
    success = {
        str(status): _success(operation, status, named, known)
        for status in (operation.status, *operation.other_statuses)
    }
    unchanged = {"304": {"description": "Not changed.", "headers": headers("ETag", "Last-Modified")}}
    refusals = openapi_errors.responses(operation, texts)
    found["responses"] = {**success, **(unchanged if is_conditional(operation) else {}), **refusals}
    return found


def _description(operation: Operation) -> str:
    lines = [_paragraphs(operation.handler)]
    lines.append(f"Scopes: {' or '.join(f'`{scope}`' for scope in operation.scopes)}.")
    if operation.audit is not None:
        lines.append(f"In the audit log as `{operation.audit}`.")
    return " ".join(filter(None, lines))


def _paragraphs(documented: Any) -> str:
    """The docstring without what it says about exceptions: those are codes here."""
    text = " ".join((inspect.getdoc(documented) or "").split())
    return text.partition("Raises ")[0].strip()


def _body(operation: Operation) -> dict[str, Any]:
    if operation.body is None:
        streamed: dict[str, Any] = {
            media_type: {"schema": {"type": "string", "minLength": 1}} for media_type in operation.media_types
        }
        if operation.example is not None:
            streamed[operation.media_types[0]]["example"] = operation.example
        return {"required": operation.body_required, "content": streamed}
    media: dict[str, Any] = {"schema": {"$ref": SCHEMAS.format(name=operation.body.__name__)}}
    if operation.example is not None:
        media["example"] = operation.example
    return {"required": operation.body_required, "content": {JSON: media}}


def _success(operation: Operation, status: int, named: Named, known: Mapping[str, Schema]) -> dict[str, Any]:
    also = []
    if is_conditional(operation):
        also += ["ETag", "Last-Modified"]
    if remembers(operation):
        also.append("Idempotency-Replayed")
    found: dict[str, Any] = {"description": "Created." if status == 201 else "Done.", "headers": headers(*also)}
    if operation.answer is None:
        found["content"] = {media_type: {"schema": {"type": "string"}} for media_type in operation.media_types}
        return found
    schema = _envelope(operation.answer)
    found["content"] = {JSON: {"schema": schema, "example": sample(schema, known)}}
    if links := _links(operation, named):
        found["links"] = links
    return found


def _envelope(answer: type[msgspec.Struct]) -> Schema:
    return {
        "type": "object",
        "properties": {"status": {"const": "success"}, "data": {"$ref": SCHEMAS.format(name=answer.__name__)}},
        "required": ["status", "data"],
        "additionalProperties": False,
    }


def _links(operation: Operation, named: Named) -> dict[str, Any]:
    """What a creation made is what the operations below name in their paths."""
    if operation.method not in ("POST", "PUT") or parameters_of(operation.path):
        return {}
    fields = {field.encode_name for field in msgspec.structs.fields(operation.answer)}
    fields_by_parameter = {"id": f"{tag_of(operation).removesuffix('s')}_id", "external_id": "external_id"}
    return {
        identifier: {"operationId": identifier, "parameters": {name: f"$response.body#/data/{field}"}}
        for identifier, other in named
        for name, field in fields_by_parameter.items()
        if field in fields and kind_of(other.path, name) == f"/{tag_of(operation)}/{{{name}}}"
    }
