"""Addresses that a provider refused for good are switched off; EVENTS tells of them, as it does any subscriber (R12).

Only where the rejected version of the token is still the current one: it may have been replaced meanwhile.
"""

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.events import EventBatch, PublishedEvent, Rejection
from libs.ids import is_id
from libs.pg import Pool
from libs.subscribe import Subscriber
from services.subscription import queries
from services.subscription.queries import RejectedToken

_log = telemetry.logger("rejections")


class Rejections:
    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self.subscriber = Subscriber(
            bus, durable="subscription_rejections", kinds=frozenset({"failed"}), handle=self._apply
        )

    async def _apply(self, batch: EventBatch) -> None:
        rejected = [token for event in batch.events if (token := _rejected(event)) is not None]
        if rejected and is_id(batch.application_id):
            async with self._pool.connection() as c:
                await queries.apply_rejections(c, batch.application_id, rejected)


def _rejected(event: PublishedEvent) -> RejectedToken | None:
    if event.kind != "failed" or "disable" not in event.data:
        return None
    try:
        found = msgspec.convert(event.data, Rejection)
    except msgspec.ValidationError as error:
        _log.warning("rejection_not_understood", message_id=event.message_id, reason=str(error))
        return None
    return RejectedToken(
        found.subscription_id,
        found.token_version,
        found.disable,
        found.rejected_at_ms,
        event.reason,
        event.message_id,
    )
