"""Verbs of the application service about the audit log: who changed what, and when."""

from typing import Any

import msgspec


class AuditEntry(msgspec.Struct, frozen=True):
    """One change: who did what to which resource, when. Without values: they may be personal."""

    application_id: str
    actor: str
    action: str
    """`subscription.disable`, `template.create`, `key.revoke` …"""
    resource: str
    """`subscription/<id>` and the like; names and external ids do not appear."""
    request_id: str
    data: dict[str, Any] = {}


class RecordAudit(msgspec.Struct, frozen=True):
    """application.record_audit -> Empty, after the commit; raises validation_error.

    Changes of what this service owns are not reported: they are recorded in the transaction that makes them.
    """

    entries: list[AuditEntry]


class ListAudit(msgspec.Struct, frozen=True):
    """application.list_audit -> AuditPage; raises resource_not_found. Newest first."""

    application_id: str
    before: int | None = None
    """Position from which to go back."""
    limit: int = 20
    """At most 100."""
    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    """From `from_ms` on, and before `to_ms`."""
    offset: int = 0
    """Entries to leave out, for numbered pages."""


class AuditView(msgspec.Struct, frozen=True):
    position: int
    actor: str
    action: str
    resource: str
    request_id: str
    data: dict[str, Any]
    occurred_at_ms: int


class AuditPage(msgspec.Struct, frozen=True):
    entries: list[AuditView]
    total: int
    """Exact to 10,000; 10,001 means more."""
    more: bool = False
    """True: there are older ones."""
