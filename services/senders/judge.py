"""What a provider's answer means for the log: one outcome with the inputs of the decision."""

from typing import Any

from libs import telemetry
from libs.clock import ReferenceClock
from libs.envelope import Delivery, Outcome
from libs.rpc import Stop
from libs.stops import REASON, held_data, held_key

from .contract import Accepted, Postponed, Rejected, Result, TryLater


class Judge:
    def __init__(self, channel: str, region: str, sent_from: str, clock: ReferenceClock) -> None:
        """`sent_from`: the region of this process, which the timeline names where it stands in for another."""
        self._where = {"provider": channel, "region": region}
        if sent_from != region:
            self._where["sent_from"] = sent_from
        self._clock = clock
        self._counts = {
            kind: telemetry.counter("deliveries_total", channel=channel, outcome=kind)
            for kind in ("accepted", "rejected", "try_later", "unknown", "expired", "held")
        }

    def outcome(
        self, item: Delivery, call_id: str, result: Result | Postponed | Stop | None, duration_ms: int
    ) -> Outcome:
        """`result` None: the message was past its deadline, nobody was called; nor after an emergency stop."""
        data = self._where | {"duration_ms": duration_ms}
        match result:
            case None:
                self._counts["expired"].inc()
                return self._fact(item, "expired", "ttl", "expired", {"deadline_ms": item.deadline_ms})
            case Stop():
                self._counts["held"].inc()
                return self._fact(item, "held", held_key(result), REASON, held_data(result, self._where["provider"]))
            case Postponed():
                self._counts["held"].inc()
                return self._postponed(item, result)
            case Accepted():
                self._counts["accepted"].inc()
                if result.provider_message_id != item.message_id:
                    data["provider_message_id"] = result.provider_message_id
                return self._fact(item, "sent", call_id, None, data)
            case Rejected():
                self._counts["rejected"].inc()
                return self._fact(item, "failed", call_id, result.reason, data | _rejection(item, result))
            case TryLater():
                return self._try_later(item, call_id, result, data | result.data)

    def _postponed(self, item: Delivery, found: Postponed) -> Outcome:
        return Outcome(
            item.message_id,
            "held",
            item.attempt,
            found.key,
            self._clock.now_ms(),
            reason=found.hold,
            data=self._where | found.data,
            hold_until_ms=found.until_ms,
        )

    def lost(self, item: Delivery, key: str) -> Outcome:
        """A holder before us may have called the provider: nobody knows. The call that follows decides."""
        return self._fact(item, "errored", key, "sender_lost", self._where | {"outcome": "unknown"})

    def dead_letter(self, item: Delivery, data: dict[str, Any]) -> Outcome:
        return self._fact(item, "failed", "dead_letter", "dead_letter", self._where | data)

    def _try_later(self, item: Delivery, call_id: str, result: TryLater, data: dict[str, Any]) -> Outcome:
        self._counts["unknown" if result.unknown else "try_later"].inc()
        data["retry_class"] = result.retry_class
        if result.retry_after:
            data["retry_after"] = result.retry_after
        if result.unknown:
            data["outcome"] = "unknown"
        return Outcome(
            item.message_id,
            "errored",
            item.attempt,
            call_id,
            self._clock.now_ms(),
            reason=result.reason,
            retry_class=result.retry_class,
            retry_after=result.retry_after,
            data=data,
        )

    def _fact(self, item: Delivery, kind: str, key: str, reason: str | None, data: dict[str, Any]) -> Outcome:
        return Outcome(item.message_id, kind, item.attempt, key, self._clock.now_ms(), reason=reason, data=data)


def _rejection(item: Delivery, result: Rejected) -> dict[str, Any]:
    found = {"subscription_id": item.subscription_id, "token_version": item.token_version, **result.data}
    if result.subscription_status is not None:
        found["disable"] = result.subscription_status
    return found
