"""DEAD: what could not be processed, and why. Never its content: only where it lay and what it belonged to."""

from typing import Literal

import msgspec


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing given up, as JSON on `signal.dead.<stream>`."""

    stream: str
    sequence: int
    """Its place in that stream, where it is no longer found."""
    subject: str
    bytes: int
    """Size of what was given up."""
    reason: Literal["undecodable", "dead_letter"]
    """`dead_letter`: it killed or defeated its handler at every delivery."""
    deliveries: int | None = None
    message_id: str | None = None
    """The message whose status says `failed` for this reason; absent where the bytes could not be read."""
    reader: str | None = None
    """The durable consumer that gave up, on streams that have several."""
