"""Verbs of the application service about emergency stops: what an application does not want sent now."""

import msgspec


class SetStop(msgspec.Struct, frozen=True):
    """application.set_stop -> Stop; raises resource_not_found, validation_error.

    Stopping what is stopped changes nothing.
    """

    application_id: str
    channel: str
    """Sender channel such as `apns`; `*` is all of them."""
    actor: str
    reason: str = ""
    """At most 500 characters."""
    request_id: str = ""
    """For the audit log."""


class ReleaseStop(msgspec.Struct, frozen=True):
    """application.release_stop -> Empty; raises resource_not_found."""

    application_id: str
    channel: str
    actor: str
    request_id: str = ""
    """For the audit log."""


class ListStops(msgspec.Struct, frozen=True):
    """application.stops -> Stops; raises resource_not_found. What is stopped now; of one application, or of all."""

    application_id: str | None = None


class Stop(msgspec.Struct, frozen=True):
    application_id: str
    channel: str
    actor: str
    reason: str
    since_ms: int
    is_new: bool = False
    """True in the answer to the `set_stop` that made it."""


class Stops(msgspec.Struct, frozen=True):
    stops: list[Stop]
