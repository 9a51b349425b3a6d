"""When a message is to be sent: a moment, a time of the recipient's day, or the first such time after the moment."""

from datetime import datetime
from typing import cast

import pytest

from libs.api.message_control import RescheduleBody
from libs.clock import FakeClock, ReferenceClock
from libs.errors import ServiceUnavailable, ValidationFailed
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.rpc import Recipient
from services.ingest.errors import REASONS
from services.ingest.schedule import MAX_DAYS_AHEAD, Due, Schedules, Timing, check_time, due_of


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


NOW = ms("2026-07-01T00:00:00Z")  # 09:00 in Seoul


def asked(at: str | None = None, local: str | None = None) -> RescheduleBody:
    return RescheduleBody(scheduled_at=at, send_at_local=local)


def person(country: str | None = None, timezone: str | None = None) -> Recipient:
    return Recipient("s", "iOSPush", 1, b"", "token", 1, 0, False, b"", country, True, timezone=timezone)


class Policies:
    def __init__(self, policy: Policy | None = None) -> None:
        self.asked = 0
        self.policy = policy

    async def of(self, application_id: str) -> Policy:
        self.asked += 1
        if self.policy is None:
            raise ServiceUnavailable(service="application")
        return self.policy


def schedules(policies: Policies, server_ms: int = NOW) -> tuple[Schedules, ReferenceClock]:
    """With a clock of their own that shows `NOW`, and one of the database that shows another time."""

    async def ask() -> int:
        return server_ms

    clock = ReferenceClock(FakeClock(NOW / 1000), ask)
    return Schedules(clock, cast(PolicyBoard, policies)), clock


@pytest.mark.parametrize(
    "text", ["tomorrow", "2026-07-01", "2026-07-01T00:00:00", "2026-13-01T00:00:00Z", "1782864000"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        check_time(asked(text), NOW)
    assert refusal.value.details["fields"]["scheduled_at"].kind == "time"


def test_a_year_ahead_is_the_most() -> None:
    assert MAX_DAYS_AHEAD == 366
    check_time(asked("2027-07-02T00:00:00Z"), NOW)
    with pytest.raises(ValidationFailed) as refusal:
        check_time(asked("2027-07-02T00:00:00.001Z"), NOW)
    reason = refusal.value.details["fields"]["scheduled_at"]
    assert reason == ("days_ahead", 366)
    assert REASONS[reason.kind][0].format(reason.value) == "must be at most 366 days ahead"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"])
def test_what_is_long_past_is_past(text: str) -> None:
    check_time(asked(text), NOW)
    assert due_of(asked(text), person(), Timing(NOW, None)) == Due(0, {"scheduled_at": "1970-01-01T00:00:00.000Z"})
    local = due_of(asked(text, "09:00"), person("KR"), Timing(NOW, None))
    assert local is not None
    assert local.at_ms == NOW


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999Z"])
def test_the_end_of_time_is_too_far_away(text: str) -> None:
    with pytest.raises(ValidationFailed):
        check_time(asked(text), NOW)


@pytest.mark.parametrize(
    ("at", "local", "recipient", "default", "due", "zone"),
    [
        ("2026-07-02T10:00:00+09:00", None, person("KR"), None, "2026-07-02T01:00Z", None),
        ("2020-01-01T00:00:00Z", None, person("KR"), None, "2020-01-01T00:00Z", None),
        (None, "09:00", person("KR"), None, "2026-07-01T00:00Z", ("Asia/Seoul", "country")),
        (None, "08:59", person("KR"), None, "2026-07-01T23:59Z", ("Asia/Seoul", "country")),
        (None, "09:00", person("KR", "Asia/Tokyo"), "UTC", "2026-07-01T00:00Z", ("Asia/Tokyo", "subscription")),
        (None, "09:00", person(None, "here"), "Europe/Paris", "2026-07-01T07:00Z", ("Europe/Paris", "application")),
        (None, "09:00", person(), None, "2026-07-01T09:00Z", ("UTC", "utc")),
        (None, "09:00", None, "Asia/Tokyo", "2026-07-01T00:00Z", ("Asia/Tokyo", "application")),
        ("2026-07-10T00:00:01Z", "09:00", person("KR"), None, "2026-07-11T00:00Z", ("Asia/Seoul", "country")),
        ("2026-07-10T00:00:00Z", "09:00", person("KR"), None, "2026-07-10T00:00Z", ("Asia/Seoul", "country")),
        ("2020-01-01T00:00:00Z", "10:00", person("KR"), None, "2026-07-01T01:00Z", ("Asia/Seoul", "country")),
    ],
)
def test_the_time_that_is_found_and_how(
    at: str | None,
    local: str | None,
    recipient: Recipient | None,
    default: str | None,
    due: str,
    zone: tuple[str, str] | None,
) -> None:
    found = due_of(asked(at, local), recipient, Timing(NOW, default))
    assert found is not None
    assert found.at_ms == ms(due)
    told = found.told
    assert (told.get("timezone"), told.get("timezone_from")) == (zone or (None, None))
    assert told.get("send_at_local") == local
    assert (None if at is None else ms(at)) == (ms(told["scheduled_at"]) if "scheduled_at" in told else None)


def test_without_a_word_about_the_time_there_is_none() -> None:
    assert due_of(asked(), person("KR"), Timing(NOW, "Asia/Seoul")) is None


async def test_the_application_is_asked_only_for_local_times() -> None:
    policies = Policies()
    timing = await schedules(policies)[0].timing("a", [asked("2026-07-02T00:00:00Z"), asked(), ValidationFailed()])
    assert (timing.default_zone, policies.asked) == (None, 0)
    policies.policy = Policy(timezone="Asia/Seoul")
    assert (await schedules(policies)[0].timing("a", [asked(), asked(local="09:00")])).default_zone == "Asia/Seoul"
    assert policies.asked == 1


async def test_without_the_application_nobodys_time_is_guessed() -> None:
    with pytest.raises(ServiceUnavailable):
        await schedules(Policies())[0].timing("a", [asked(local="09:00")])


@pytest.mark.parametrize("off_ms", [-300_000, 300_000])
async def test_the_clock_of_the_database_counts(off_ms: int) -> None:
    found, clock = schedules(Policies(), NOW + off_ms)
    assert found.now_ms() == NOW
    await clock.synchronise()
    assert (await found.timing("a", [])).now_ms == found.now_ms() == NOW + off_ms
