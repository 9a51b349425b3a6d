"""What a call that failed is answered with, and the reply that says nothing."""

from typing import Any

import msgspec


class Fault(msgspec.Struct, frozen=True):
    code: str
    details: dict[str, Any] = {}


class Empty(msgspec.Struct, frozen=True):
    """Nothing to say but that it was done."""
