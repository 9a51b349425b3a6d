"""Apple refuses the application's key in the middle of the flow: the breaker opens, messages wait, nothing is lost."""

from collections.abc import Iterator

import msgspec
import pytest

from tests.faults.conftest import run_story
from tests.faults.evidence import put_faults
from tests.faults.story import Story, hold
from tests.faults.system import SHORT_RETRIES, System, until

pytestmark = pytest.mark.faults

REFUSED = [{"provider": "apns", "status": 403, "reason": "InvalidProviderToken"}]
AWAY = [{"provider": "fcm", "status": 503, "reason": "UNAVAILABLE"}]
ENVIRONMENT = SHORT_RETRIES | {"AUTOMATA_SENDER__BREAKER_SECONDS": "2", "AUTOMATA_LIFECYCLE__BREAKER_SECONDS": "2"}
OPEN_SECONDS = 8.0
WAITING = "SELECT count(*) AS waiting FROM lifecycle.due WHERE reason = $1"
UNSENT = """
SELECT count(*) AS unsent FROM lifecycle.messages
WHERE channel = $1 AND status IN ('pending', 'errored') AND created_at < now() - interval '5 seconds'
"""


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest) -> Iterator[Story]:
    yield from run_story(request, System(ENVIRONMENT), int(request.config.getoption("--messages")))


@pytest.mark.parametrize(
    ("rules", "broken", "well"), [(REFUSED, "apns", "fcm"), (AWAY, "fcm", "apns")], ids=["credentials", "outage"]
)
async def test_messages_wait_for_the_breaker_and_go_on(
    story: Story, rules: list[dict[str, object]], broken: str, well: str
) -> None:
    async with story.flow() as flow:
        await flow.reached(0.2)
        await put_faults(story.system, rules)

        async def opened() -> bool:
            return broken in {each["channel"] for each in _breakers(story.system)}

        await until(opened, f"the breaker for {broken} is open", 20)
        await hold(OPEN_SECONDS)
        [row] = await story.system.fetch(WAITING, f"breaker:{broken}")
        assert row["waiting"] > story.messages / 20, "they wait in due"
        story.notes["waiting"] = row["waiting"]
        [row] = await story.system.fetch(UNSENT, well)
        assert row["unsent"] == 0, "the other provider's messages do not wait"
        await put_faults(story.system, [])
    report = await story.check(f"breaker-{broken}")
    assert not _breakers(story.system)
    assert report.statuses["successful"] == sum(report.statuses.values())


def _breakers(system: System) -> list[dict[str, object]]:
    """As `automata status` tells them."""
    processes = msgspec.json.decode(system.cli("status", "--json"))
    return [breaker for process in processes for breaker in process.get("breakers", [])]
