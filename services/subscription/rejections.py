"""Addresses that a provider refused for good are switched off; EVENTS tells of them, as it does any subscriber (R12).

Only where the rejected version of the token is still the current one: it may have been replaced meanwhile.
"""

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.errors import SignalError
from libs.events import EventBatch, PublishedEvent, Rejection
from libs.ids import is_id
from libs.seal import KeyRing
from libs.subscribe import Subscriber
from services.subscription.changes import Change, Changer
from services.subscription.edit import Edit, Who
from services.subscription.rows import Book, Draft, Row

PROVIDER = Who("provider", "provider")
_log = telemetry.logger("rejections")


class Rejections:
    def __init__(self, changer: Changer, ring: KeyRing, bus: Bus) -> None:
        self._changer = changer
        self._ring = ring
        self.subscriber = Subscriber(
            bus, durable="subscription_rejections", kinds=frozenset({"failed"}), handle=self._apply
        )

    async def _apply(self, batch: EventBatch) -> None:
        """Raises `ServiceUnavailable`, and what makes the batch worth another delivery."""
        if not is_id(batch.application_id):
            return
        rejected = [(event, told) for event in batch.events if (told := _rejection(event)) is not None]
        changes: list[Change] = [_Rejected(batch.application_id, event, told, self._ring) for event, told in rejected]
        if not changes:
            return
        for (event, _), answer in zip(rejected, await self._changer.settle(changes), strict=True):
            if isinstance(answer, SignalError):
                _log.warning("rejection_not_applicable", message_id=event.message_id, reason=answer.code)
            elif isinstance(answer, Exception):
                raise answer


class _Rejected(Change):
    def __init__(self, application_id: str, event: PublishedEvent, told: Rejection, ring: KeyRing) -> None:
        self.application_id = application_id.lower()
        self.subscription_ids = [told.subscription_id.lower()]
        self._event = event
        self._told = told
        self._ring = ring

    def apply(self, row: Row, book: Book) -> Draft:
        told, edit = self._told, Edit(row, PROVIDER, book.now_ms, self._ring)
        if self._is_current(row):
            since = {} if told.rejected_at_ms is None else {"rejected_at_ms": told.rejected_at_ms}
            edit.status(
                "rejected",
                code=told.disable,
                reason=self._event.reason,
                token_version=told.token_version,
                message_id=self._event.message_id,
                **since,
            )
        return edit.draft()

    def _is_current(self, row: Row) -> bool:
        """Whether it speaks of the token that is there now: one that was registered again since is another."""
        since = self._told.rejected_at_ms
        return self._told.token_version == row.token_version and (since is None or since > row.registered_at_ms)


def _rejection(event: PublishedEvent) -> Rejection | None:
    if event.kind != "failed" or "disable" not in event.data:
        return None
    try:
        return msgspec.convert(event.data, Rejection)
    except msgspec.ValidationError as error:
        _log.warning("rejection_not_understood", message_id=event.message_id, reason=str(error))
        return None
