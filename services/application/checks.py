"""Checks that several verbs share."""

from typing import Any

import msgspec

from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import is_id

MAX_NAME = 200


def expect_id(text: str) -> str:
    """In lower case. Nothing has an id that is none: raises `ResourceNotFound`."""
    if not is_id(text):
        raise ResourceNotFound(id=text[:64])
    return text.lower()


def check_name(name: str) -> None:
    """Raises `ValidationFailed`."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValidationFailed(fields={"name": f"must have 1 to {MAX_NAME} printable characters"})


def check_json(field: str, value: dict[str, Any], most: int) -> None:
    """At most `most` bytes, and nothing that Postgres cannot hold. Raises `ValidationFailed`."""
    encoded = msgspec.json.encode(value)
    if len(encoded) > most or b"\\u0000" in encoded:  # a NUL is no text to Postgres
        raise ValidationFailed(fields={field: f"must be at most {most} bytes of JSON without NUL"})
