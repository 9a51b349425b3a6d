"""What schemathesis must be told of this API: loaded by its settings beside this file."""

import re
import zlib
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.specs.openapi.checks import positive_data_acceptance

from libs.ids import new_id
from services.ingest.errors import REASONS

KEY = "Idempotency-Key"
OWNER = "application_id"
"""Another one than the key's is always refused."""
UNLIKELY = {
    "/subscriptions": {"double_opt_in", "token_kind", "identity_token"},
    "/messages": {"external_id", "channels", "strategy", "template_id", "variables", "locale", "data", "push"},
    "/messages/template": {"external_id", "channels", "strategy", "push"},
    "/templates": {"variants", "default_locale", "title_template"},
}
"""By path, fields that exclude others, or that hardly any value but a well-chosen one is good for."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")
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
_LIMITS = {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
_STATED = [
    re.compile(re.escape(text).replace(r"\{\}", r"-?[\d.]+" if reason in _LIMITS else ".*"))
    for reason in IN_SCHEMAS
    for text in REASONS[reason]
]
BY_KEY = {"/users/logout": {"subscriptions"}}
"""By path, fields that may only be left out with a key of scope `client`."""
_WITHOUT_FIELDS = {"invalid_request", "validation_error", "idempotency_key_reused"}
"""Codes that a good request never gets, unless a field is to blame in a way that no schema can state. All other codes
of 400 and 422 are resource codes of REF-001: about what a token, a template or a message is, not about its shape."""

_LINES = {"application/x-ndjson", "text/csv"}
"""Bodies that are text to OpenAPI: what their lines must be, no schema of it says."""


VERSION = "version"
"""Of a template: all have the first one. Any other is 404, which looks as if the template just made had gone; the
templates' own tests ask for versions that nobody made."""


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", kwargs: dict[str, Any]) -> None:
    """Control characters in a header end a request before it has reached any route. A good request has an
    Idempotency-Key of its own, and three of four say what can be done, so that there is something to go on with."""
    for name, value in case.headers.items():
        if _CONTROL.search(value):
            case.headers[name] = _CONTROL.sub("", value)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if KEY in case.headers:
        case.headers[KEY] = f"{case.headers[KEY][:200].strip()}-{new_id()}"
    if VERSION in (case.query or {}):
        case.query[VERSION] = 1
    if isinstance(case.body, dict):
        body = _whole(case.body)
        if isinstance(body.get(VERSION), int):
            body[VERSION] = 1
        if zlib.crc32(repr(body).encode("utf-8", "replace")) % 4:
            body = _likely(case.operation.path, body)
        if repr(body) != repr(case.body):
            case.body = body


def _likely(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Of what a schema allows, what is also meaningful: one recipient, one source of content, a token of its type."""
    kept = {name: value for name, value in body.items() if name not in UNLIKELY.get(path, ()) and name != OWNER}
    if path == "/subscriptions":
        kept |= {"type": "iOSPush", "token": new_id().replace("-", "") * 2}
    if path == "/messages":
        kept |= {"title": "Hello"}
    if path == "/templates":
        kept |= {"name": new_id(), "body_template": "Hello {{ name | default: 'you' }}"}
    return kept


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    # 1.0 is an integer to JSON Schema, and none to the decoder.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


@schemathesis.check
def good_request_is_refused_for_what_no_schema_can_state(
    ctx: CheckContext, response: Response, case: "Case[Any]"
) -> None:
    """Instead of `positive_data_acceptance`, which knows only the status: it looks at the reasons."""
    try:
        positive_data_acceptance(ctx, response, case)
    except RejectedPositiveData:
        error = response.json()["error"]
        if (
            case.media_type not in _LINES
            and error["code"] in _WITHOUT_FIELDS
            and not _is_beyond_schemas(error["details"].get("fields", {}), BY_KEY.get(case.operation.path, set()))
        ):
            raise


def _is_beyond_schemas(fields: dict[str, str], excused: set[str]) -> bool:
    reasons = [reason for name, reason in fields.items() if name not in excused]
    return bool(fields) and not any(form.fullmatch(reason) for reason in reasons for form in _STATED)
