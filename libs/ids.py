"""Identifiers: UUIDv7 strings for everything that is stored."""

import re

from uuid_utils import uuid7

UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_UUID = re.compile(UUID_PATTERN)


def new_id() -> str:
    """A UUIDv7: ordered by creation time, which the log's partitions rely on."""
    return str(uuid7())


def new_id_at(seconds: float) -> str:
    """One that sorts as if it had been made at that Unix time."""
    return str(uuid7(nanoseconds=round(seconds * 1e9)))


def is_id(text: str) -> bool:
    """True for any UUID in its canonical form, whatever its version."""
    return _UUID.fullmatch(text) is not None


def time_of(identifier: str) -> float:
    """The Unix time, in seconds, that a UUIDv7 carries (RFC 9562 §5.7)."""
    return int(identifier.replace("-", "")[:12], 16) / 1000
