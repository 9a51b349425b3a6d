"""The providers answer 503 to 30 % of all calls for a minute: every retry comes when the log said it would."""

import msgspec
import pytest

from libs.retry import TABLE
from tests.faults.evidence import put_faults
from tests.faults.plan import Shape
from tests.faults.story import Story, hold

pytestmark = pytest.mark.faults

RETRY_SCALE = 0.01
"""`outage` waits 15 minutes by the table: here 9 s."""
STORM_SECONDS = 60.0
STORM = [
    {"provider": "apns", "status": 503, "reason": "ServiceUnavailable", "probability": 0.3},
    {"provider": "fcm", "status": 503, "reason": "UNAVAILABLE", "probability": 0.3},
]
PICK_UP_P95 = 2.0
"""Seconds from the time that the log named to the next attempt."""
SLACK = 0.25
"""Seconds between the provider's answer and the commit that schedules what follows."""

# What was planned after a failed attempt, and when the next one began.
RETRIES = """
SELECT extract(EPOCH FROM e.occurred_at)::float8 AS failed_at, e.data ->> 'retry_class' AS class,
    (e.data ->> 'retry_at_ms')::float8 / 1000 AS due_at, extract(EPOCH FROM r.occurred_at)::float8 AS begun_at
FROM lifecycle.message_events AS e
JOIN lifecycle.message_events AS r
    ON r.message_id = e.message_id AND r.kind = 'retried' AND r.attempt = e.attempt + 1
WHERE e.kind = 'errored' AND e.data ? 'retry_at_ms'
"""


class Retry(msgspec.Struct, frozen=True):
    failed_at: float
    class_: str
    due_at: float
    begun_at: float

    def delay_is_right(self) -> bool:
        """Within the jitter of the table, and what the commit took."""
        schedule = TABLE["outage"]
        delay = schedule.delays[0] * RETRY_SCALE
        low, high = delay * (1 - schedule.jitter), delay * (1 + schedule.jitter)
        return low <= self.due_at - self.failed_at <= high + SLACK + 0.05 * delay


async def test_retries_come_when_they_are_due(story: Story) -> None:
    async with story.flow(Shape(story.messages, seconds=STORM_SECONDS)) as flow:
        await put_faults(story.system, STORM)
        await hold(STORM_SECONDS)
        await put_faults(story.system, [])
        await flow.reached(1.0)
    await story.settled()
    rows = await story.system.fetch(RETRIES)
    retries = [Retry(row["failed_at"], row["class"], row["due_at"], row["begun_at"]) for row in rows]
    assert len(retries) > story.messages / 5
    assert {each.class_ for each in retries} == {"outage"}
    lags = [each.begun_at - each.due_at for each in retries]
    p95 = sorted(lags)[int(len(lags) * 0.95)]
    story.notes |= {"retries": len(retries), "pick_up_p95_seconds": p95, "pick_up_max_seconds": max(lags)}
    report = await story.check("retry-storm")
    wrong = [each for each in retries if not each.delay_is_right()]
    assert len(wrong) <= len(retries) / 100, wrong[:5]
    assert min(lags) >= 0
    assert p95 < PICK_UP_P95
    # Three of ten calls of each round fail: 1 / 0.7 calls a message, and what the policy says is all there is.
    assert report.calls <= 1.2 * report.statuses["successful"] / 0.7
