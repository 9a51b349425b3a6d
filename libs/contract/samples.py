"""One sample of everything on the streams, in every form a release has written: kept as bytes in `proto/golden/`.

A sample is never changed. Where a field is added, so that the newest sample no longer encodes to its bytes, a sample
of the next version is added that sets it; the older ones stay decodable (ARCHITECTURE, rolling upgrades).
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from libs.alerts import Alert
from libs.dead import DeadLetter
from libs.envelope import (
    Accepted,
    Button,
    Closing,
    Content,
    Delivery,
    DispatchEnvelope,
    Outcome,
    OutcomeEnvelope,
    Push,
    SendEnvelope,
)
from libs.events import EventBatch, PublishedEvent
from libs.rpc import ErasureRecord

_APPLICATION = "019aa000-0000-7000-8000-000000000001"
_SUBSCRIPTION = "019aa000-0000-7000-8000-000000000002"
_MESSAGE = "019aaaaa-aaaa-7aaa-8aaa-aaaaaaaaaaaa"
_OTHER_MESSAGE = "019aaaaa-aaaa-7aaa-8aaa-bbbbbbbbbbbb"
_HANDOFF = "019aaaaa-aaab-7aaa-8aaa-aaaaaaaaaaaa"
_MOMENT_MS = 1_764_000_000_000


class Sample(NamedTuple):
    version: int
    value: Any

    @property
    def is_json(self) -> bool:
        return isinstance(self.value, EventBatch | DeadLetter | Alert)

    def file(self, name: str) -> str:
        """Where its bytes are kept, under `proto/`."""
        return f"golden/{name}-v{self.version}.{'json' if self.is_json else 'msgpack'}"

    def encode(self) -> bytes:
        return msgspec.json.encode(self.value) if self.is_json else msgspec.msgpack.encode(self.value)

    def decode(self, payload: bytes) -> Any:
        decode = msgspec.json.decode if self.is_json else msgspec.msgpack.decode
        return decode(payload, type=type(self.value))


_CONTENT = Content(
    title="주문이 접수되었습니다",
    body="Your order is on its way.",
    data={"order": "A-17", "highlight": True, "items": [1, 2]},
    push=Push(
        badge=3,
        sound="chime",
        image="https://cdn.example.com/a.png",
        click_action="OPEN_ORDER",
        buttons=(Button("yes", "Yes"), Button("no", "No")),
        channel_id="orders",
        category="ORDER",
        mutable_content=True,
        content_available=True,
        interruption_level="time-sensitive",
        silent=False,
    ),
    collapse_key="order-A-17",
)

SAMPLES: dict[str, tuple[Sample, ...]] = {
    "dispatch": (
        Sample(
            1,
            DispatchEnvelope(
                _HANDOFF,
                _APPLICATION,
                "normal",
                [
                    Accepted(_MESSAGE, _SUBSCRIPTION, 1, bytes(range(60)), _MOMENT_MS, "info"),
                    Accepted(_OTHER_MESSAGE, _SUBSCRIPTION, 2, bytes(range(60)), _MOMENT_MS + 1, "ad"),
                ],
                marked=True,
            ),
        ),
    ),
    "send": (
        Sample(
            1,
            SendEnvelope(
                _HANDOFF,
                _APPLICATION,
                "critical",
                "apns",
                "local",
                [
                    Delivery(
                        _MESSAGE,
                        _SUBSCRIPTION,
                        1,
                        "a5" * 32,
                        4,
                        _MOMENT_MS - 86_400_000,
                        test=True,
                        deadline_ms=_MOMENT_MS,
                        content=_CONTENT,
                        token_kind="fid",  # noqa: S106 - a kind, not a secret
                    )
                ],
                marked=True,
            ),
        ),
        Sample(
            2,
            SendEnvelope(
                _HANDOFF,
                _APPLICATION,
                "bulk",
                "fcm",
                "local",
                [
                    Delivery(
                        _MESSAGE,
                        _SUBSCRIPTION,
                        2,
                        "fcm-token",
                        1,
                        _MOMENT_MS,
                        test=False,
                        deadline_ms=_MOMENT_MS + 86_400_000,
                        content=_CONTENT,
                        closing=Closing(_MOMENT_MS, "ad_night", _MOMENT_MS + 39_600_000, {"rule": "law"}),
                    )
                ],
            ),
        ),
    ),
    "outcome": (
        Sample(
            1,
            OutcomeEnvelope(
                _APPLICATION,
                "bulk",
                [
                    Outcome(_MESSAGE, "sent", 1, "call-1", _MOMENT_MS, data={"provider_id": "p-1"}),
                    Outcome(
                        _OTHER_MESSAGE,
                        "errored",
                        2,
                        "call-2",
                        _MOMENT_MS + 5,
                        reason="TooManyRequests",
                        retry_class="throttled",
                        retry_after=30.5,
                        data={"outcome": "rejected", "status": 429},
                    ),
                ],
            ),
        ),
        Sample(
            2,
            OutcomeEnvelope(
                _APPLICATION,
                "normal",
                [
                    Outcome(
                        _MESSAGE,
                        "held",
                        1,
                        f"quiet_hours:{_MOMENT_MS}",
                        _MOMENT_MS - 5,
                        reason="quiet_hours",
                        data={"start": "21:00", "end": "08:00", "until_ms": _MOMENT_MS},
                        hold_until_ms=_MOMENT_MS,
                    ),
                ],
            ),
        ),
    ),
    "events": (
        Sample(
            1,
            EventBatch(
                _APPLICATION,
                [
                    PublishedEvent(
                        epoch=1,
                        txid="18446744073709551615",
                        position=41,
                        message_id=_MESSAGE,
                        kind="failed",
                        attempt=1,
                        key="call-1",
                        occurred_at=datetime(2025, 11, 24, 16, 0, 0, 123456, tzinfo=UTC),
                        reason="Unregistered",
                        data={"disable": -10, "subscription_id": _SUBSCRIPTION, "token_version": 4},
                    )
                ],
            ),
        ),
    ),
    "dead": (
        Sample(
            1,
            DeadLetter(
                stream="SEND_normal",
                sequence=17,
                subject="signal.send.normal.apns.local",
                bytes=2048,
                reason="dead_letter",
                deliveries=3,
                message_id=_MESSAGE,
                reader="apns_local",
            ),
        ),
    ),
    "erasures": (
        Sample(
            1,
            ErasureRecord(
                application_id=_APPLICATION,
                request_id=_HANDOFF,
                user_id="019aa000-0000-7000-8000-000000000003",
                subscription_ids=[_SUBSCRIPTION],
                key_ids=[bytes(range(16))],
                requested_at_ms=_MOMENT_MS,
            ),
        ),
    ),
    "alerts": (
        Sample(
            1,
            Alert(
                kind="breaker_closed",
                application_id=_APPLICATION,
                channel="apns",
                reason="InvalidProviderToken",
                retry_class="credentials",
                opened_at=datetime(2025, 11, 24, 16, 0, 0, 123456, tzinfo=UTC),
                occurred_at=datetime(2025, 11, 24, 16, 5, 0, tzinfo=UTC),
                failures=3,
                waiting=1200,
            ),
        ),
    ),
}
"""Every version of each, the newest last, by the name of its channel."""
