"""Requests to bytes, answers from bytes: what both clients share, without any I/O."""

import datetime
import email.utils
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import quote

import msgspec

from libs.api.messages import ApiError as ErrorBody
from libs.client.errors import ApiError
from libs.ids import new_id

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Request(NamedTuple):
    """One operation of the API, ready to be sent as often as needed."""

    method: str
    path: str
    """Below the client's base URL."""
    query: Mapping[str, str]
    body: bytes | None
    headers: Mapping[str, str]


class _Success(msgspec.Struct, Generic[T]):
    data: T


class _Failure(msgspec.Struct):
    error: ErrorBody


def request(
    method: str,
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    query: msgspec.Struct | None = None,
    body: msgspec.Struct | None = None,
    idempotency_key: str | None = None,
) -> Request:
    """A POST without a key gets one of its own: its repetitions after a lost answer are the same request.

    Raises `ValueError` for a parameter that no path can hold: everybody on the way takes `..` for the segment above.
    """
    headers: dict[str, str] = {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if method == "POST":
        headers["Idempotency-Key"] = idempotency_key or new_id()
    segments = {name: _segment(name, value) for name, value in (parameters or {}).items()}
    return Request(method, path.format_map(segments), query_of(query), _body(body), headers)


def _segment(name: str, value: str) -> str:
    if value in ("", ".", ".."):
        raise ValueError(f"{name} cannot be {value!r}")
    return quote(value, safe="")


def _body(body: msgspec.Struct | None) -> bytes | None:
    """Fields at their defaults are left out: the platform has the same defaults, and may be an older one."""
    if body is None:
        return None
    given = {
        field.encode_name: value
        for field in msgspec.structs.fields(body)
        if (value := getattr(body, field.name)) != field.default and value is not None
    }
    return _encode(given)


def query_of(query: msgspec.Struct | None) -> dict[str, str]:
    """Parameters that differ from their defaults, as text."""
    if query is None:
        return {}
    return {
        field.encode_name: _text(value)
        for field in msgspec.structs.fields(query)
        if (value := getattr(query, field.name)) is not None and value != field.default
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def answer(status: int, headers: Mapping[str, str], body: bytes, kind: type[T]) -> T:
    """The `data` of a success. Raises `ApiError`."""
    if 200 <= status < 300:
        found: T = _decoder(cast(Hashable, kind)).decode(body).data
        return found
    raise failure(status, headers, body)


def failure(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error of an answer, also where something between us and the platform made it."""
    try:
        error = msgspec.json.decode(body, type=_Failure).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        error = ErrorBody("unexpected_answer", f"HTTP {status}", {})
    return ApiError(status, error.code, error.message, error.details, headers.get("x-request-id", ""))


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Success[kind])


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of `Retry-After` (RFC 9110 §10.2.3); None for what is neither."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    now = datetime.datetime.now(datetime.UTC)
    return None if moment.tzinfo is None else max(0.0, (moment - now).total_seconds())
