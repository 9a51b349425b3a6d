"""Verbs about the keys that wrap data keys: the ring is rotated with the system running (`libs.ring`)."""

from typing import Literal

import msgspec


class RewrapDataKeys(msgspec.Struct, frozen=True):
    """subscription.rewrap -> Rewrapped; raises validation_error.

    One page of one table, of all applications: data keys under another ring key than the active one are wrapped again.
    A key that is changed or erased meanwhile is left alone.
    """

    table: Literal["subscriptions", "data_keys"]
    after: str = ""
    """`next_after` of the page before."""
    limit: int = 2_000
    change: bool = True
    """False: they are only counted."""


class RewrapCredentials(msgspec.Struct, frozen=True):
    """application.rewrap -> Rewrapped; raises validation_error. The same for provider credentials."""

    after: str = ""
    limit: int = 2_000
    change: bool = True


class Rewrapped(msgspec.Struct, frozen=True):
    wraps: dict[str, int]
    """Ring key to how many data keys of this page it wrapped when the page was read."""
    rewrapped: int = 0
    unreadable: int = 0
    """Data keys that no key of the ring opens: damaged, or their ring key is gone."""
    total: int = 0
    """Rows of the table, estimated."""
    next_after: str | None = None
    """None: this was the last page."""


class RingReport(msgspec.Struct, frozen=True):
    """What one process says of its ring, when asked on `signal.ring`."""

    service: str
    process: str
    """Host and process id."""
    active: str
    keys: list[str]
    """Names of those that it can unwrap with."""
