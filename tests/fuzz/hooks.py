"""What schemathesis must be told of this API: loaded by its settings beside this file."""

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.specs.openapi.checks import positive_data_acceptance

from libs.ids import new_id
from services.ingest.errors import REASONS

KEY = "Idempotency-Key"
IN_SCHEMAS = (
    "required",
    "unknown",
    "type",
    "enum",
    "uuid",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
)
"""Reasons of a refusal that a JSON Schema can state: none of them may meet what the schema allows."""
_STATED = [re.compile(re.sub(r"\\{[^}]*}", ".*", re.escape(text))) for reason in IN_SCHEMAS for text in REASONS[reason]]
_WITHOUT_FIELDS = {"invalid_request", "validation_error", "idempotency_key_reused"}
"""Codes that a good request never gets, unless a field is to blame in a way that no schema can state. All other codes
of 400 and 422 are resource codes of REF-001: about what a token, a template or a message is, not about its shape."""


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """A good request has an Idempotency-Key of its own, and whole numbers are written as such: 1.0 is an integer to
    JSON Schema, and none to the decoder."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.headers is not None and KEY in case.headers:
        case.headers[KEY] = f"{case.headers[KEY][:200].strip()}-{new_id()}"
    case.body = _whole(case.body)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


@schemathesis.check
def good_request_is_refused_for_what_no_schema_can_state(ctx: CheckContext, response: Response, case: Case) -> None:
    """Instead of `positive_data_acceptance`, which knows only the status: it looks at the reasons."""
    try:
        positive_data_acceptance(ctx, response, case)
    except RejectedPositiveData:
        error = response.json()["error"]
        if error["code"] in _WITHOUT_FIELDS and not _is_beyond_schemas(error["details"].get("fields", {})):
            raise


def _is_beyond_schemas(fields: dict[str, str]) -> bool:
    return bool(fields) and not any(form.fullmatch(reason) for reason in fields.values() for form in _STATED)
