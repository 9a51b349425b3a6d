"""Bodies from bytes. msgspec decides; only when it refuses, JSON Schema names every bad field at once."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import jsonschema_rs
import msgspec
from multidict import MultiMapping

from libs.api.messages import BatchBody, BatchOfRaw, MessageItem
from libs.errors import InvalidRequest, SignalError, ValidationFailed
from libs.ids import UUID_PATTERN
from libs.policy import LOCAL_TIME_PATTERN
from services.ingest.errors import Reason

T = TypeVar("T", bound=msgspec.Struct)

MAX_DEPTH = 16
"""Levels of nesting that `data` may have."""
SCHEMA_DEPTH = 128
"""Levels that the schema is asked about; it gives up at 255."""
TOO_DEEP = "nested too deeply"
MAX_NAMED = 100
"""Bad fields that one answer names."""
WHOLE_BODY = "$"
_NUL_ESCAPE = b"\\u0000"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_decode_any = msgspec.json.Decoder().decode
_FORMS = {UUID_PATTERN: Reason("uuid"), LOCAL_TIME_PATTERN: Reason("local_time")}
_MSGSPEC_PATH = re.compile(r"`\$\.?([^`]*)`$")


class Decoder(Generic[T]):
    """Decodes one kind of body."""

    def __init__(self, kind: type[T], *, look_inside: bool = True) -> None:
        self._look_inside = look_inside
        self._decode = msgspec.json.Decoder(kind).decode
        # Draft 4 is the last in which 1.0 is no integer, which is how msgspec sees it too.
        self._schema = jsonschema_rs.Draft4Validator(msgspec.json.schema(kind))

    def decode(self, raw: bytes | msgspec.Raw) -> T:
        """Raises `InvalidRequest` (malformed, missing fields) or `ValidationFailed` (wrong values)."""
        if not raw:
            raise InvalidRequest(reason="the body is missing")
        try:
            body = self._decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(raw, error) from None
        if self._look_inside and _NUL_ESCAPE in bytes(raw):
            refuse(unstorable(_decode_any(raw)))
        return body

    def fits(self, raw: bytes) -> bool:
        """Whether the schema alone accepts what is well-formed: must agree with `decode`."""
        return not any(self._schema.iter_errors(_decode_any(raw)))

    def _explain(self, raw: bytes | msgspec.Raw, refusal: Exception) -> SignalError:
        try:
            value = _decode_any(raw)
        except msgspec.ValidationError as error:
            return ValidationFailed(fields=_named_by_msgspec(error))
        except RecursionError:
            return InvalidRequest(reason=TOO_DEEP)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return InvalidRequest(reason=f"malformed JSON: {error}")
        if too_deep(value, SCHEMA_DEPTH):
            return InvalidRequest(reason=TOO_DEEP)
        fields = _by_field(self._schema.iter_errors(value)) or _named_by_msgspec(refusal)
        if any(reason.kind == "required" for reason in fields.values()):
            return InvalidRequest(fields=fields)
        return ValidationFailed(fields=fields)


class QueryDecoder(Generic[T]):
    """Decodes the query of one operation: text into the types of its struct."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._schema = jsonschema_rs.Draft4Validator(msgspec.json.schema(kind))

    def decode(self, query: MultiMapping[str]) -> T:
        """Raises `ValidationFailed`; a name that is given twice is as wrong as one that is unknown."""
        refuse({_legible(name): Reason("repeated") for name in query if len(query.getall(name)) > 1})
        given = dict(query)
        # msgspec would take the text for nothing given, and a filter would be lost without a word.
        refuse({_legible(name): Reason("invalid") for name, text in given.items() if text.lower() == "null"})
        refuse(unstorable(given))
        try:
            return msgspec.convert(given, self._kind, strict=False)
        except msgspec.ValidationError as error:
            raise ValidationFailed(fields=self._named(given, error)) from None

    def _named(self, given: dict[str, str], refusal: Exception) -> dict[str, Reason]:
        """Every bad field: what is text in a URL is given to the schema as what it would be in JSON."""
        typed = {name: _json_value(text) for name, text in given.items()}
        named = _by_field(self._schema.iter_errors(typed))
        of_msgspec = _named_by_msgspec(refusal)
        if named:
            of_msgspec.pop(WHOLE_BODY, None)  # the schema names what it was
        return {name: reason for name, reason in named.items() if name not in of_msgspec} | {
            name: named.get(name, reason) for name, reason in of_msgspec.items()
        }


def _json_value(text: str) -> Any:
    try:
        value = _decode_any(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return text
    return value if isinstance(value, int) else text


class Batch(NamedTuple):
    items: Sequence[MessageItem | SignalError]
    """In order; what could not be decoded is its own refusal."""
    validate_only: bool


_whole_batch = msgspec.json.Decoder(BatchBody).decode
_batch_of_raw = Decoder(BatchOfRaw, look_inside=False)
_item = Decoder(MessageItem)


def decode_batch(raw: bytes) -> Batch:
    """All at once where all is well, else item by item. Raises `InvalidRequest`, `ValidationFailed` for the whole."""
    if _NUL_ESCAPE not in raw:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            batch = _whole_batch(raw)
            return Batch(batch.messages, batch.validate_only)
    outer = _batch_of_raw.decode(raw)
    return Batch([_item_or_refusal(each) for each in outer.messages], outer.validate_only)


def _item_or_refusal(raw: msgspec.Raw) -> MessageItem | SignalError:
    try:
        return _item.decode(raw)
    except SignalError as error:
        return error


def unix_ms(field: str, text: str | None) -> int | None:
    """A time in RFC 3339 as Unix milliseconds. Raises `ValidationFailed`."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, _Aware)
    except msgspec.ValidationError:
        raise ValidationFailed(fields={field: Reason("time")}) from None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def refuse(fields: dict[str, Reason]) -> None:
    """Raises `ValidationFailed` if there are any bad fields."""
    if fields:
        raise ValidationFailed(fields=fields)


def too_deep(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether dicts and lists are nested deeper than `room` levels, `value` itself included."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return False
    return room == 0 or any(too_deep(item, room - 1) for item in value if type(item) in (dict, list))


def unstorable(value: Any) -> dict[str, Reason]:
    """Fields with what Postgres or msgpack cannot hold: U+0000, integers beyond 64 bits, bottomless nesting."""
    if not isinstance(value, dict):
        return {}
    found = ((name, _why_unstorable(item, MAX_DEPTH)) for name, item in value.items())
    return {_legible(name): reason for name, reason in found if reason is not None}


def _why_unstorable(value: Any, room: int) -> Reason | None:
    if isinstance(value, str):
        return Reason("nul") if "\0" in value else None
    if isinstance(value, int | float):  # jsonb gives a large float back as an integer
        return None if -(2**63) <= value < 2**64 else Reason("number_range")
    if not isinstance(value, dict | list):
        return None
    if room == 0:
        return Reason("depth", MAX_DEPTH)
    parts: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (_why_unstorable(part, room - 1) for part in parts)), None)


def _by_field(errors: Iterable[jsonschema_rs.ValidationError]) -> dict[str, Reason]:
    fields: dict[str, Reason] = {}
    for error in errors:
        for name, reason in _reasons(error):
            fields.setdefault(_legible(name), reason)
            if len(fields) == MAX_NAMED:
                return fields
    return fields


def _reasons(error: jsonschema_rs.ValidationError) -> Iterator[tuple[str, Reason]]:
    """One or more (field, reason) for one schema error."""
    kind: Any = error.kind
    path = [str(step) for step in error.instance_path]
    name = ".".join(path) or WHOLE_BODY
    match kind.name:
        case "anyOf":
            for inner in _closest(kind.context):
                yield from _reasons(inner)
        case "required":
            yield ".".join([*path, kind.property]), Reason("required")
        case "additionalProperties":
            for unexpected in kind.unexpected:
                yield ".".join([*path, unexpected]), Reason("unknown")
        case "type":
            yield name, Reason("type", " | ".join(kind.types))
        case "enum":
            yield name, Reason("enum", ", ".join(str(option) for option in kind.options))
        case "pattern":
            yield name, _FORMS.get(kind.pattern) or Reason("pattern", kind.pattern)
        case "format":
            yield name, Reason("format", kind.format)
        case limit:
            yield name, Reason(limit, kind.limit)


def _closest(branches: list[list[jsonschema_rs.ValidationError]]) -> list[jsonschema_rs.ValidationError]:
    """Every `anyOf` of ours is "something or null": the something's errors say more."""
    return branches[0]


def _named_by_msgspec(error: Exception) -> dict[str, Reason]:
    """The one field that msgspec complained of, for what a schema cannot say: numbers beyond 64 bits, repeated keys."""
    found = _MSGSPEC_PATH.search(str(error))
    name = found.group(1).partition("[")[0] if found else ""
    reason = Reason("number_range") if "range" in str(error) else Reason("invalid")
    return {_legible(name) or WHOLE_BODY: reason}


def _legible(name: str) -> str:
    return name if len(name) <= 100 else name[:100] + "…"
