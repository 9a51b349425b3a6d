"""Verbs of lifecycle about frequency caps: what was sent to a person lately is counted."""

import msgspec

from libs.policy import FrequencyCap


class SendToReserve(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message that is about to be sent to somebody."""

    message_id: str
    subject_id: str
    """The user if known, else the subscription: caps are per person."""
    category: str


class ReserveSends(msgspec.Struct, frozen=True):
    """lifecycle.reserve_sends -> SendsReserved, after the commit; raises validation_error. Counts against caps.

    A message that has a place already keeps it; one that failed or was cancelled takes none.
    """

    application_id: str
    caps: list[FrequencyCap]
    sends: list[SendToReserve]


class Capped(msgspec.Struct, frozen=True):
    """Why one message may not be sent now: the cap that was found full."""

    message_id: str
    cap: FrequencyCap
    count: int
    """Messages in the window, this one not included."""
    free_at_ms: int
    """When the window has room again, if nothing else is sent."""


class SendsReserved(msgspec.Struct, frozen=True):
    capped: list[Capped]
    """All others have a place."""
