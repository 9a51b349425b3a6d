"""Errors at the edge: each code's HTTP status and text, each field reason's text, in English and Korean.

`TABLE` is total over `libs.errors.BY_CODE`; a test proves it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from libs.errors import InternalError, SignalError

Language = Literal["en", "ko"]


class Entry(NamedTuple):
    status: int
    en: str
    ko: str


TABLE: dict[str, Entry] = {
    "invalid_request": Entry(
        400,
        "The request is malformed or lacks a required field.",
        "요청 형식이 잘못되었거나 필수 필드가 누락되었습니다.",
    ),
    "validation_error": Entry(422, "The request holds invalid values.", "요청 데이터의 유효성 검증에 실패했습니다."),
    "authentication_failed": Entry(401, "The API key is missing or not valid.", "API 키가 없거나 유효하지 않습니다."),
    "permission_denied": Entry(403, "The API key may not do this.", "이 작업에 대한 권한이 없습니다."),
    "resource_not_found": Entry(404, "There is no such resource.", "요청한 리소스를 찾을 수 없습니다."),
    "rate_limit_exceeded": Entry(429, "Too many requests.", "요청 횟수 제한을 초과했습니다."),
    "method_not_allowed": Entry(
        405, "This path does not answer to that method.", "이 경로에서 허용되지 않는 메서드입니다."
    ),
    "unsupported_media_type": Entry(
        415, "The body is of a type that is not read here.", "지원되지 않는 형식의 요청 본문입니다."
    ),
    "payload_too_large": Entry(413, "The request body is too large.", "요청 본문이 너무 큽니다."),
    "service_unavailable": Entry(
        503,
        "The service cannot answer at the moment. Please try again.",
        "서비스를 일시적으로 사용할 수 없습니다. 잠시 후 다시 시도해 주세요.",
    ),
    "invalid_token": Entry(400, "The token is not valid for this subscription type.", "유효하지 않은 구독 토큰입니다."),
    "invalid_subscription_type": Entry(
        400, "This subscription type is not supported.", "지원되지 않는 구독 유형입니다."
    ),
    "duplicate_subscription": Entry(
        400, "A subscription with this token exists already.", "이 토큰의 구독이 이미 존재합니다."
    ),
    "subscription_disabled": Entry(400, "The subscription does not receive such messages.", "비활성화된 구독입니다."),
    "message_too_large": Entry(
        400, "The message is larger than the channel allows.", "메시지가 채널의 허용 크기를 초과했습니다."
    ),
    "invalid_message_content": Entry(
        400, "The content of the message is not valid.", "메시지 내용이 유효하지 않습니다."
    ),
    "message_already_processed": Entry(400, "The message has been processed already.", "이미 처리된 메시지입니다."),
    "idempotency_key_reused": Entry(
        422,
        "This Idempotency-Key was used with another request.",
        "이 Idempotency-Key는 다른 요청에 이미 사용되었습니다.",
    ),
    "template_not_found": Entry(404, "There is no such template.", "템플릿을 찾을 수 없습니다."),
    "invalid_template_variables": Entry(
        400, "The template or its variables are not valid.", "유효하지 않은 템플릿 변수입니다."
    ),
    "missing_required_variable": Entry(
        400, "A variable that the template requires is missing.", "필수 템플릿 변수가 누락되었습니다."
    ),
    "template_inactive": Entry(400, "The template is disabled.", "비활성화된 템플릿입니다."),
    "internal_server_error": Entry(500, "Something went wrong on our side.", "서버 내부 오류가 발생했습니다."),
}


class Reason(NamedTuple):
    """What is wrong with one field: a row of `REASONS` and its value."""

    kind: str
    value: Any = None


REASONS: dict[str, tuple[str, str]] = {
    "invalid": ("is not valid", "유효하지 않습니다"),
    "required": ("is required", "필수 입력 항목입니다"),
    "unknown": ("is not a known field", "알 수 없는 필드입니다"),
    "type": ("must be of type {}", "{} 타입이어야 합니다"),
    "enum": ("must be one of {}", "다음 중 하나여야 합니다: {}"),
    "uuid": ("must be a UUID", "유효한 UUID 형식이어야 합니다"),
    "pattern": ("does not have the form {}", "형식이 올바르지 않습니다: {}"),
    "format": ("must be a {}", "{} 형식이어야 합니다"),
    "minLength": ("must have at least {} characters", "{}자 이상이어야 합니다"),
    "maxLength": ("must have at most {} characters", "{}자 이하여야 합니다"),
    "maxBytes": ("must have at most {} bytes", "{}바이트 이하여야 합니다"),
    "minItems": ("must have at least {} items", "항목이 {}개 이상이어야 합니다"),
    "maxItems": ("must have at most {} items", "항목이 {}개 이하여야 합니다"),
    "minProperties": ("must have at least {} entries", "항목이 {}개 이상이어야 합니다"),
    "maxProperties": ("must have at most {} entries", "항목이 {}개 이하여야 합니다"),
    "minimum": ("must be at least {}", "{} 이상이어야 합니다"),
    "maximum": ("must be at most {}", "{} 이하여야 합니다"),
    "number_range": ("holds a number that is out of range", "허용 범위를 벗어난 숫자가 있습니다"),
    "depth": ("must not be nested deeper than {} levels", "중첩은 {}단계 이하여야 합니다"),
    "nul": ("must not contain the character U+0000", "U+0000 문자를 포함할 수 없습니다"),
    "repeated": ("is given more than once", "한 번만 지정할 수 있습니다"),
    "other_file": ("differs from what was imported under this id", "이 ID로 가져온 파일과 다릅니다"),
    "unclosed_quote": ("opens a quote that never ends", "닫히지 않은 따옴표가 있습니다"),
    "time": (
        "must be a time in RFC 3339, such as 2026-01-31T09:00:00Z",
        "RFC 3339 형식의 시각이어야 합니다 (예: 2026-01-31T09:00:00Z)",
    ),
    "local_time": ("must be a time of day, such as 21:30", "21:30과 같은 시각이어야 합니다"),
    "days_ahead": ("must be at most {} days ahead", "지금부터 {}일 이내여야 합니다"),
    "schedule": (
        "either scheduled_at or send_at_local is required",
        "scheduled_at과 send_at_local 중 하나는 필수 입력 항목입니다",
    ),
    "cursor": ("is not a cursor that was answered here", "이 목록에서 받은 커서가 아닙니다"),
    "liquid": ("line {0[0]}: {0[1]}", "{0[0]}번째 줄: {0[1]}"),
    "liquid_value": (
        "line {}: one of the variables cannot be used there",
        "{}번째 줄: 변수 값을 사용할 수 없습니다",
    ),
    "liquid_work": ("takes too much work to render", "렌더링에 필요한 처리량이 너무 많습니다"),
    "version_size": (
        "holds too many texts and placeholders in all",
        "텍스트와 변수 자리가 전체적으로 너무 많습니다",
    ),
    "taken": ("is the name of another template", "다른 템플릿이 사용하는 이름입니다"),
    "locale": ("must be a language tag such as ko or en-GB", "ko, en-GB와 같은 언어 태그여야 합니다"),
    "locale_or_channel": ("needs a locale, a channel or both", "locale이나 channel이 필요합니다"),
    "title_or_body": ("title or body is required", "title 또는 body는 필수 입력 항목입니다"),
    "recipient": (
        "either subscription_id or external_id is required",
        "subscription_id와 external_id 중 하나는 필수 입력 항목입니다",
    ),
    "one_recipient": ("must not be given with subscription_id", "subscription_id와 함께 지정할 수 없습니다"),
    "with_person": ("can only be given with external_id", "external_id와 함께만 지정할 수 있습니다"),
    "with_template": ("can only be given with template_id", "template_id와 함께만 지정할 수 있습니다"),
    "one_content": ("must not be given with template_id", "template_id와 함께 지정할 수 없습니다"),
    "batch_full": (
        "would make more than {} messages of the batch",
        "이 항목을 더하면 한 요청의 메시지가 {}개를 넘습니다",
    ),
    "forbidden_key": ("is a key that the provider reserves", "프로바이더가 예약한 키입니다"),
    "idempotency_key": (
        "must be 1 to 255 printable ASCII characters",
        "출력 가능한 ASCII 문자 1~255자여야 합니다",
    ),
}

TOLD: dict[str, str] = {
    "must be a P-256 private key in PEM (Apple's .p8 file)": "PEM 형식의 P-256 개인 키여야 합니다 (Apple .p8 파일)",
    "must be a key that a provider token can be signed with": "프로바이더 토큰에 서명할 수 있는 키여야 합니다",
    "must be an RSA private key of 2048 to 4096 bits in PEM": "PEM 형식의 2048~4096비트 RSA 개인 키여야 합니다",
    "must be a whole RSA private key: its numbers do not fit together": (
        "온전한 RSA 개인 키여야 합니다: 키를 이루는 수가 서로 맞지 않습니다"
    ),
    "must be an https URL": "https URL이어야 합니다",
    "must be an e-mail address": "이메일 주소여야 합니다",
    "is not waiting for a confirmation": "확인을 기다리는 상태가 아닙니다",
    "is not a status that this type of subscription can report": "이 구독 유형이 보고할 수 없는 상태 코드입니다",
    "must be the IANA name of a time zone, such as Asia/Seoul": "Asia/Seoul과 같은 IANA 시간대 이름이어야 합니다",
    "must differ from start": "start와 달라야 합니다",
    "must be at most 16384 bytes of JSON without NUL": "JSON으로 16384바이트 이하여야 하며 NUL을 포함할 수 없습니다",
    "must have 1 to 200 printable characters": "출력 가능한 문자 1~200자여야 합니다",
    "is for Email and SMS only": "Email과 SMS에서만 사용할 수 있습니다",
    "must be at most 100 on one subscription": "구독 하나에 100개 이하여야 합니다",
    "must have names of 1 to 128 and values of at most 256 characters": "이름은 1~128자, 값은 256자 이하여야 합니다",
    "is not a cursor that was answered here": "이 목록에서 받은 커서가 아닙니다",
    "differs from what was imported under this id": "이 ID로 가져온 파일과 다릅니다",
}
"""What another service says of a field comes as text in English; its Korean."""


def status_of(error: SignalError) -> int:
    return _entry(error).status


def describe(error: SignalError, language: Language) -> dict[str, Any]:
    """The `error` object of the envelope: code, message, details; an internal error keeps its details to itself."""
    entry = _entry(error)
    text = entry.ko if language == "ko" else entry.en
    known = TABLE.get(error.code) is entry
    code = error.code if known else InternalError.code
    return {"code": code, "message": text, "details": _localize(_public(entry.status, error.details), language)}


def _public(status: int, details: dict[str, Any]) -> dict[str, Any]:
    """What is ours to know (500), or which part of us is away (503), is nothing for the caller."""
    if status == 500:
        return {}
    return {name: value for name, value in details.items() if status != 503 or name == "retry_after"}


def _entry(error: SignalError) -> Entry:
    return TABLE.get(error.code, TABLE[InternalError.code])


def _localize(value: Any, language: Language) -> Any:
    if isinstance(value, Reason):
        english, korean = REASONS[value.kind]
        return (korean if language == "ko" else english).format(value.value)
    if isinstance(value, Mapping):
        return {key: _localize(item, language) for key, item in value.items()}
    if isinstance(value, str) and language == "ko":
        return TOLD.get(value, value)
    return value


@lru_cache(maxsize=256)
def language_of(accept_language: str) -> Language:
    """Korean if `Accept-Language` prefers it to English (RFC 9110 §12.5.4), else English."""
    weights = {"en": 0.0, "ko": 0.0}
    for part in accept_language[:200].split(","):
        tag, _, parameter = part.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in weights:
            weights[primary] = max(weights[primary], _weight(parameter))
    return "ko" if weights["ko"] > weights["en"] else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name != "q":
        return 1.0
    try:
        return min(float(value), 1.0)
    except ValueError:
        return 0.0
