"""What lay on SEND while its hours ended is not sent: it is held as if it had come now."""

import time

import msgspec

from libs.config import Nats
from libs.envelope import Closing, Delivery
from tests.contract.sender_harness import CHANNEL, REGION, SEND, delivery, sending
from tests.contract.streams_harness import drained

NIGHT = {"start": "21:00", "end": "08:00", "rule": "law", "timezone": "Asia/Seoul", "timezone_from": "country"}


def closing(in_seconds: float) -> Delivery:
    at_ms = int((time.time() + in_seconds) * 1000)
    until_ms = at_ms + 11 * 3_600_000
    return msgspec.structs.replace(
        delivery(attempt=2), closing=Closing(at_ms, "ad_night", until_ms, {**NIGHT, "until_ms": until_ms})
    )


async def test_what_comes_to_its_turn_too_late_is_held_until_the_hours_begin_again(nats_settings: Nats) -> None:
    late, in_time, always = closing(-1), closing(3_600), delivery()
    assert late.closing is not None
    async with sending(nats_settings) as harness:
        await harness.give(late, in_time, always)
        found = {one.message_id: one for one in await harness.reported(3)}
        await drained(harness.bus, SEND)
        assert sorted(harness.sender.calls) == sorted([in_time.message_id, always.message_id])
    held = found[late.message_id]
    until_ms = late.closing.until_ms
    assert (held.kind, held.reason, held.attempt, held.key) == ("held", "ad_night", 2, f"ad_night:{until_ms}")
    assert (held.hold_until_ms, held.retry_class) == (until_ms, None)
    assert held.data == {"provider": CHANNEL, "region": REGION, **NIGHT, "until_ms": until_ms}


async def test_what_is_past_its_deadline_too_expires(nats_settings: Nats) -> None:
    async with sending(nats_settings) as harness:
        await harness.give(msgspec.structs.replace(closing(-1), deadline_ms=1))
        (one,) = await harness.reported(1)
        assert (one.kind, harness.sender.calls) == ("expired", [])
