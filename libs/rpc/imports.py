"""Verbs of the subscription service for bulk work: import part by part, export page by page."""

from typing import Any, Literal

import msgspec

from libs.policy import QuietHours
from libs.rpc.subscription import SubscriptionView

MAX_ERRORS = 1_000
"""Refused lines that an import keeps; beyond that they are only counted."""


class BeginImport(msgspec.Struct, frozen=True):
    """subscription.begin_import -> ImportBegun. Begins, or goes on with what was begun under this id."""

    application_id: str
    import_id: str
    actor: str


class ImportBegun(msgspec.Struct, frozen=True):
    parts: dict[int, bytes]
    """What is done already: a part's first line, and its digest."""


class ImportRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line that the gateway found good."""

    line: int
    type: str
    token: str
    """Normalised."""
    token_kind: Literal["token", "fid"] = "token"
    user_id: str | None = None
    device_info: dict[str, Any] = {}
    tags: dict[str, str] = {}
    ad_consent: bool | None = None
    installation_id: str | None = None
    status: int = 1
    night_consent: bool | None = None
    quiet_hours: QuietHours | None = None
    """None: what there is stays."""


class ImportFailure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line that was refused: why, and which field, without its value."""

    line: int
    code: str
    field: str | None = None


class ImportPart(msgspec.Struct, frozen=True):
    """subscription.import_part -> Empty; raises validation_error. All of the part in one transaction, once.

    A token that is there already is brought up to date; nobody is subscribed again who had unsubscribed.
    """

    application_id: str
    import_id: str
    actor: str
    first_line: int
    lines: int
    digest: bytes
    rows: list[ImportRow]
    failures: list[ImportFailure]


class EndImport(msgspec.Struct, frozen=True):
    """subscription.end_import -> ImportView; raises resource_not_found. The whole file was read."""

    application_id: str
    import_id: str
    actor: str


class GetImport(msgspec.Struct, frozen=True):
    """subscription.get_import -> ImportView; raises resource_not_found."""

    application_id: str
    import_id: str


class ImportView(msgspec.Struct, frozen=True):
    id: str
    status: Literal["running", "completed", "failed"]
    lines_done: int
    created: int
    updated: int
    failed: int
    started_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None


class ListImportErrors(msgspec.Struct, frozen=True):
    """subscription.import_errors -> ImportErrors; raises resource_not_found. In the order of lines."""

    application_id: str
    import_id: str
    after: int = 0
    limit: int = 100


class ImportErrors(msgspec.Struct, frozen=True):
    errors: list[ImportFailure]
    total: int
    """Refused lines in all; at most `MAX_ERRORS` of them can be listed."""


class ExportSubscriptions(msgspec.Struct, frozen=True):
    """subscription.export -> SubscriptionsExport. A page in the order of ids; archived ones are left out."""

    application_id: str
    after: str | None = None
    limit: int = 1_000
    type: str | None = None
    status: int | None = None


class SubscriptionsExport(msgspec.Struct, frozen=True):
    subscriptions: list[SubscriptionView]
    next_after: str | None = None
    """None: that was all."""
