"""The retry policy is DECISIONS' table."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.envelope import LANES, Lane
from libs.retry import TABLE, RetryClass, next_delay, schedule_for

CLASSES: tuple[RetryClass, ...] = get_args(RetryClass)
classes = st.sampled_from(CLASSES)
lanes = st.sampled_from(LANES)
attempts = st.integers(1, 30)
spreads = st.floats(-1, 1)
retry_afters = st.none() | st.floats(0, 86_400)

SECONDS = 1.0
MINUTE = 60.0


def delays(retry_class: RetryClass, lane: Lane, count: int) -> list[float | None]:
    return [next_delay(retry_class, attempt, lane) for attempt in range(1, count + 1)]


@pytest.mark.parametrize("lane", LANES)
def test_a_network_error_is_tried_five_times(lane: Lane) -> None:
    assert delays("network", lane, 6) == [30 * SECONDS, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, None, None]


@pytest.mark.parametrize("lane", ["normal", "bulk"])
def test_an_outage_is_tried_every_quarter_of_an_hour_for_six_hours(lane: Lane) -> None:
    assert delays("outage", lane, 24) == [15 * MINUTE] * 23 + [None]


def test_a_critical_message_does_not_wait_a_quarter_of_an_hour_in_an_outage() -> None:
    assert delays("outage", "critical", 4) == [30 * SECONDS, 2 * MINUTE, 5 * MINUTE, 5 * MINUTE]
    assert delays("outage", "critical", 24)[-1] is None


@pytest.mark.parametrize("lane", LANES)
def test_a_throttled_message_is_tried_three_times(lane: Lane) -> None:
    assert delays("throttled", lane, 3) == [MINUTE, 5 * MINUTE, None]


@pytest.mark.parametrize("lane", LANES)
def test_a_refused_credential_is_waited_for_until_the_message_expires(lane: Lane) -> None:
    assert delays("credentials", lane, 4) == [MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE]
    assert next_delay("credentials", 10_000, lane) == 5 * MINUTE


@given(classes, attempts, lanes, retry_afters, spreads)
def test_retry_after_is_a_floor(
    retry_class: RetryClass, attempt: int, lane: Lane, retry_after: float | None, spread: float
) -> None:
    delay = next_delay(retry_class, attempt, lane, retry_after=retry_after, spread=spread)
    assert delay is None or delay >= (retry_after or 0)


@given(classes, attempts, lanes, spreads)
def test_jitter_is_a_fifth_at_most(retry_class: RetryClass, attempt: int, lane: Lane, spread: float) -> None:
    plain = next_delay(retry_class, attempt, lane)
    spread_out = next_delay(retry_class, attempt, lane, spread=spread)
    assert (plain is None) == (spread_out is None)
    if plain is not None and spread_out is not None:
        assert 0.8 * plain <= spread_out * 1.000001
        assert spread_out <= 1.2 * plain * 1.000001


@given(classes, attempts, lanes, retry_afters, spreads)
def test_a_delay_is_the_tables_or_the_providers_and_a_fifth_more_or_less(
    retry_class: RetryClass, attempt: int, lane: Lane, retry_after: float | None, spread: float
) -> None:
    schedule = schedule_for(retry_class, lane)
    found = next_delay(retry_class, attempt, lane, retry_after=retry_after, spread=spread)
    assert (found is None) == (schedule.attempts is not None and attempt >= schedule.attempts)
    if found is not None:
        told = schedule.delays[min(attempt, len(schedule.delays)) - 1]
        floor = retry_after or 0.0
        assert max(floor, told * (1 - schedule.jitter)) <= found * 1.000001
        assert found <= max(floor, told) * (1 + schedule.jitter) * 1.000001


@given(classes, lanes, st.integers(1, 6))
def test_without_a_floor_the_whole_jitter_is_used(retry_class: RetryClass, lane: Lane, attempt: int) -> None:
    found = [next_delay(retry_class, attempt, lane, spread=spread) for spread in (-1.0, 0.0, 1.0)]
    if None not in found:
        early, told, late = (delay or 0.0 for delay in found)
        assert early == pytest.approx(0.8 * told)
        assert late == pytest.approx(1.2 * told)


@given(classes, lanes, retry_afters, spreads)
def test_attempts_end_once_and_for_all(
    retry_class: RetryClass, lane: Lane, retry_after: float | None, spread: float
) -> None:
    left = [next_delay(retry_class, n, lane, retry_after=retry_after, spread=spread) is not None for n in range(1, 40)]
    assert left == sorted(left, reverse=True)
    limit = schedule_for(retry_class, lane).attempts
    assert sum(left) == (39 if limit is None else limit - 1)


def test_a_test_may_shorten_every_delay_but_not_what_a_provider_asks_for() -> None:
    assert next_delay("network", 1, "normal", scale=0.001) == pytest.approx(0.03)
    assert next_delay("throttled", 1, "normal", retry_after=7, scale=0.001) == 7


def test_every_class_has_a_row() -> None:
    assert set(TABLE) == set(CLASSES)
    assert all(schedule.delays and 0 <= schedule.jitter < 1 for schedule in TABLE.values())
