"""What opens an application's breaker, what closes it, and who is let through meanwhile."""

import pytest

from libs.clock import FakeClock
from services.senders.breaker import LONGEST
from services.senders.contract import Postponed, Result, TryLater
from tests.unit.breaker_harness import (
    ANSWERED,
    DOWN,
    LOST,
    NEVER_LEFT,
    REFUSED,
    SECONDS,
    TAKEN,
    THROTTLED,
    TIMEOUT,
    A,
    B,
    Lifecycle,
    Process,
    shared,
)

pytest_plugins = ["tests.unit.breaker_fixtures"]


# opening --------------------------------------------------------------------------------------------------------------


def test_a_refused_credential_opens_at_once_and_for_its_application_alone(process: Process) -> None:
    process.call(REFUSED)
    waiting = process.call(TAKEN)
    assert waiting is not None
    assert (waiting.hold, waiting.until_ms) == ("breaker", None)
    assert process.call(TAKEN, B) is None


def test_who_waits_is_told_why(process: Process, clock: FakeClock) -> None:
    process.call(REFUSED)
    now = int(clock.time() * 1000)
    waiting = process.call(TAKEN)
    assert waiting is not None
    assert waiting.key == f"breaker:apns:{now}"
    assert waiting.data == {
        "channel": "apns",
        "breaker_reason": "InvalidProviderToken",
        "retry_class": "credentials",
        "opened_at_ms": now,
        "probe_at_ms": now + 30_000,
    }


@pytest.mark.parametrize("failure", [DOWN, TIMEOUT])
def test_an_outage_is_so_many_failures_in_a_row(process: Process, failure: TryLater) -> None:
    process.fail(19, failure)
    assert not process.is_open()
    process.fail(1, failure)
    assert process.is_open()


def test_fewer_are_enough_where_nothing_else_came_for_a_long_time(process: Process, clock: FakeClock) -> None:
    """The first ten calls of an application whose provider hangs: no more are let through before they time out."""
    began = [str(process.begin()) for _ in range(10)]
    clock.advance(10)
    for call in began:
        assert not process.is_open()
        process.board.learn(A, call, TIMEOUT, clock.monotonic() - 10)
    assert process.is_open()


def test_a_call_that_went_well_in_between_begins_the_long_time_anew(process: Process, clock: FakeClock) -> None:
    for _ in range(5):
        process.fail(9)
        clock.advance(10)
        process.call(TAKEN)
    assert not process.is_open()


@pytest.mark.parametrize("good", [TAKEN, ANSWERED])
def test_one_call_that_the_provider_takes_or_judges_begins_the_row_anew(process: Process, good: Result) -> None:
    for _ in range(2):
        process.fail(19)
        process.call(good)
    assert not process.is_open()


@pytest.mark.parametrize("other", [THROTTLED, NEVER_LEFT])
def test_what_says_nothing_of_the_provider_neither_counts_nor_ends_the_row(process: Process, other: Result) -> None:
    for _ in range(20):
        assert not process.is_open()
        process.call(other)
        process.fail(1)
    assert process.is_open()


def test_being_throttled_never_opens(process: Process) -> None:
    process.fail(1_000, THROTTLED)
    assert not process.is_open()


def test_the_failures_of_several_applications_are_not_added_up(process: Process) -> None:
    for each in range(19):
        process.fail(1, DOWN, A)
        process.fail(1, DOWN, B)
        assert process.call(TAKEN, f"application {each}") is None
    assert not process.is_open(A)
    assert not process.is_open(B)


def test_half_of_the_recent_calls_are_an_outage_once_they_are_enough(process: Process) -> None:
    for _ in range(24):
        process.fail(1)
        process.call(TAKEN)
    process.fail(1)
    assert not process.is_open(), "49 calls are too few"
    process.call(TAKEN)
    process.fail(1)
    assert process.is_open()


def test_a_third_of_the_calls_is_none(process: Process) -> None:
    for _ in range(500):
        process.fail(1)
        process.call(TAKEN)
        process.call(TAKEN)
    assert not process.is_open()


def test_what_went_well_before_counts_too(process: Process) -> None:
    for _ in range(100):
        process.call(TAKEN)
    for _ in range(49):
        process.fail(1)
        process.call(TAKEN)
    assert not process.is_open(), "49 of 100"
    process.fail(1)
    assert process.is_open()


def test_old_calls_have_no_share(process: Process, clock: FakeClock) -> None:
    for _ in range(40):
        process.fail(1)
        process.call(TAKEN)
        clock.advance(2)
    assert not process.is_open()


def test_a_lost_connection_is_one_failure_however_many_calls_it_took_along(process: Process, clock: FakeClock) -> None:
    began = [process.begin() for _ in range(200)]
    clock.advance(0.1)
    for call in began:
        process.board.learn(A, str(call), LOST, clock.monotonic() - 0.1)
    assert not process.is_open()
    for _ in range(19):  # each on a connection of its own
        clock.advance(0.1)
        process.fail(1, LOST)
    assert process.is_open()


def test_what_is_kept_of_calls_is_bounded(process: Process) -> None:
    for each in range(1_200):
        process.fail(1, DOWN, f"application {each}")
    assert len(process.board._detector._calls) == 1_000


# half open ------------------------------------------------------------------------------------------------------------


def test_once_its_time_has_come_one_call_at_a_time_goes_through(process: Process, clock: FakeClock) -> None:
    process.call(REFUSED)
    clock.advance(SECONDS - 1)
    assert isinstance(process.begin(), Postponed)
    clock.advance(1)
    assert isinstance(process.begin(), str)
    assert isinstance(process.begin(), Postponed)


@pytest.mark.parametrize("good", [TAKEN, ANSWERED])
def test_a_probe_that_is_taken_or_judged_closes(process: Process, clock: FakeClock, good: Result) -> None:
    process.call(REFUSED)
    clock.advance(SECONDS)
    process.call(good)
    assert not process.is_open()


def test_each_probe_that_fails_doubles_the_pause_up_to_a_limit(process: Process, clock: FakeClock) -> None:
    process.call(REFUSED)
    pauses = []
    for _ in range(6):
        pause = 0
        while process.call(REFUSED) is not None:
            clock.advance(5)
            pause += 5
        pauses.append(pause)
    assert pauses == [30, 60, 120, 240, 300, 300]
    assert max(pauses) == SECONDS * LONGEST


def test_the_row_begins_anew_after_it_closed(process: Process, clock: FakeClock) -> None:
    process.fail(20)
    clock.advance(SECONDS)
    process.call(TAKEN)
    process.fail(19)
    assert not process.is_open()


def test_calls_that_were_under_way_neither_close_nor_prolong(process: Process, clock: FakeClock) -> None:
    under_way = [str(process.begin()) for _ in range(4)]
    process.call(REFUSED)
    results: tuple[Result, ...] = (TAKEN, ANSWERED, REFUSED, DOWN)
    for call, result in zip(under_way, results, strict=True):
        process.board.learn(A, call, result, clock.monotonic())
    clock.advance(SECONDS - 1)
    assert isinstance(process.begin(), Postponed)
    clock.advance(1)
    assert isinstance(process.begin(), str)


def test_after_an_outage_being_throttled_is_being_well(process: Process, clock: FakeClock) -> None:
    process.fail(20)
    clock.advance(SECONDS)
    process.call(THROTTLED)
    assert not process.is_open()


@pytest.mark.parametrize("verdict", [THROTTLED, NEVER_LEFT])
def test_a_probe_that_proves_no_credential_leaves_it_open_and_the_next_one_waits(
    process: Process, clock: FakeClock, verdict: Result
) -> None:
    process.call(REFUSED)
    clock.advance(SECONDS)
    process.call(verdict)
    assert process.is_open()
    assert isinstance(process.begin(), Postponed)
    clock.advance(SECONDS / 3)
    assert isinstance(process.begin(), str)


def test_a_probe_that_was_not_called_after_all_makes_room_for_the_next(process: Process, clock: FakeClock) -> None:
    process.call(REFUSED)
    clock.advance(SECONDS)
    call = str(process.begin())
    process.board.learn(A, call, Postponed("rate_limit", "k", 1), clock.monotonic())
    assert isinstance(process.begin(), str)


def test_the_verdict_on_a_breaker_says_nothing_of_the_next_one(
    process: Process, lifecycle: Lifecycle, clock: FakeClock
) -> None:
    """It closed, and opened again, while the probe was under way."""
    for verdict in (TAKEN, REFUSED):
        process.board._open[A] = shared(clock, probe_in=0)
        probe = str(process.begin())
        clock.advance(5)
        later = process.board._open[A] = shared(clock)
        process.board.learn(A, probe, verdict, clock.monotonic() - 5)
        assert process.board._open[A] == later
        assert not process.board._findings
