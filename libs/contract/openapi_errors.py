"""The errors of an operation in OpenAPI: one answer for each status, with the codes that it may carry."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from libs.contract.openapi_parameters import headers
from libs.contract.operations import Operation, Text, codes_of
from libs.contract.schemas import Schema

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "title": "Error",
        "description": "What every refusal looks like.",
        "type": "object",
        "properties": {
            "status": {"const": "error"},
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": "Stable: programs decide by it."},
                    "message": {"type": "string", "description": "For people, in English or Korean."},
                    "details": {
                        "type": "object",
                        "description": "`fields` names each bad field and what is wrong with it; others go by code.",
                    },
                },
                "required": ["code", "message", "details"],
                "additionalProperties": False,
            },
        },
        "required": ["status", "error"],
        "additionalProperties": False,
    }
}
_EXTRA_HEADERS = {429: ("Retry-After",), 503: ("Retry-After",)}


def responses(operation: Operation, texts: Mapping[str, Text]) -> dict[str, Any]:
    """By status, ascending."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes_of(operation):
        by_status[texts[code].status].append(code)
    return {
        str(status): {
            "description": " ".join(f"`{code}`: {texts[code].en}" for code in codes),
            "headers": headers(*_EXTRA_HEADERS.get(status, ())),
            "content": {"application/json": {"schema": _schema(codes), "examples": _references(codes)}},
        }
        for status, codes in sorted(by_status.items())
    }


def examples(texts: Mapping[str, Text], details: Mapping[str, Any]) -> dict[str, Any]:
    """Of every code, in both languages."""
    found = {}
    for code, text in sorted(texts.items()):
        for language, message in (("en", text.en), ("ko", text.ko)):
            error = {"code": code, "message": message, "details": details.get(code, {})}
            found[f"{code}.{language}"] = {"summary": message, "value": {"status": "error", "error": error}}
    return found


def _schema(codes: list[str]) -> Schema:
    code = {"properties": {"code": {"enum": codes}}}
    return {"allOf": [{"$ref": "#/components/schemas/Error"}, {"properties": {"error": code}}]}


def _references(codes: list[str]) -> dict[str, Any]:
    names = [f"{code}.{language}" for code in codes for language in ("en", "ko")]
    return {name: {"$ref": f"#/components/examples/{name}"} for name in names}
