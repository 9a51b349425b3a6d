"""The schedule that senders share: never above the rate, close to it where there is work, evenly spaced."""

import math
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.senders.pace import TOLERANCE_MS
from services.senders.schedule import MARGIN, PATIENCE_MS, SLICE_MS, Schedule, book, free_ms, interval_ms, take

NOW = 1_767_225_600_000.0
WINDOW_MS = 10_000.0

rates = st.floats(0.05, 20_000)
steps = st.tuples(st.integers(0, 3), st.integers(1, 500), st.floats(0, 400))
"""Who takes, how much it wants, and how long after the one before."""


def most_in_a_window(moments: list[float]) -> int:
    moments = sorted(moments)
    return max((bisect_left(moments, at + WINDOW_MS) - i for i, at in enumerate(moments)), default=0)


@settings(max_examples=200)
@given(rates, st.lists(steps, max_size=60))
def test_no_moment_is_given_twice_and_none_too_close_to_another(
    rate: float, taken: list[tuple[int, int, float]]
) -> None:
    known, now, moments = Schedule(), NOW, list[float]()
    for who, wanted, later in taken:
        now += later
        if free_ms(known, now, rate) > now + PATIENCE_MS:
            continue
        known, slots = take(known, now, rate, wanted, f"process {who}")
        assert 1 <= slots.count <= wanted
        while slots.count:
            moments.append(slots.pop())
    step = interval_ms(rate)
    assert all(after - before >= step - 0.001 for before, after in pairwise(moments)), (
        "but for the resolution of floats"
    )


@settings(max_examples=100)
@given(rates, st.lists(steps, max_size=60), st.integers(0, 2**32))
def test_called_within_the_tolerance_it_is_never_above_the_rate(
    rate: float, taken: list[tuple[int, int, float]], salt: int
) -> None:
    known, now, calls = Schedule(), NOW, list[float]()
    for who, wanted, later in taken:
        now += later
        if free_ms(known, now, rate) > now + PATIENCE_MS:
            continue
        known, slots = take(known, now, rate, wanted, f"process {who}")
        while slots.count:
            late = hash((salt, len(calls))) % 1_000 / 1_000 * TOLERANCE_MS
            calls.append(slots.pop() + late)
    assert most_in_a_window(calls) <= max(1, math.floor(rate * 10 * 1.05)), "a message in ten seconds is the least"


@pytest.mark.parametrize("rate", [0.2, 1.0, 7.0, 200.0, 5_000.0])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_with_enough_work_the_rate_is_reached_whoever_takes(rate: float, processes: int) -> None:
    """Each process takes when what it has lasts for less than half a slice."""
    known, moments = Schedule(), list[float]()
    lasts = [NOW] * processes
    seconds = max(20.0, 20 / rate)
    for tick in range(int(seconds * 200)):
        now = NOW + tick * 5
        for who in range(processes):
            if lasts[who] - now < SLICE_MS / 2 and free_ms(known, now, rate) <= now + PATIENCE_MS:
                known, slots = take(known, now, rate, 10_000, f"process {who}")
                lasts[who] = slots.end_ms
                moments += [slots.pop() for _ in range(slots.count)]
    end = NOW + seconds * 1_000
    in_time = [at for at in moments if at < end]
    assert rate * seconds * 0.95 <= len(in_time) <= rate * seconds
    assert max(after - before for before, after in pairwise(in_time)) < interval_ms(rate) + 10


def test_what_nobody_took_is_gone() -> None:
    known, first = take(Schedule(), NOW, 100, 1, "a")
    known, later = take(known, NOW + 60_000, 100, 500, "a")
    assert (first.start_ms, later.start_ms) == (NOW, NOW + 60_000)
    assert later.count == int(SLICE_MS / interval_ms(100)), "a slice, not the minute that passed"


def test_a_slice_is_divided_among_those_that_share() -> None:
    known = Schedule()
    counts = []
    for name in "abca":
        known, slots = take(known, NOW, 1_000, 500, name)
        counts.append(slots.count)
    assert counts == [99, 49, 33, 33]
    _, slots = take(known, NOW + 11_000, 1_000, 500, "a")
    assert slots.count == 99, "who took nothing for ten seconds shares no longer"


def test_nothing_goes_before_a_pause_is_over() -> None:
    _, slots = take(Schedule(), NOW, 10, 5, "a", paused_ms=NOW + 30_000)
    assert slots.start_ms == NOW + 30_000


def test_a_clock_that_was_wrong_for_a_moment_stops_nobody_for_long() -> None:
    known, _ = take(Schedule(), NOW + 3_600_000, 10, 5, "a")
    assert free_ms(known, NOW, 10) <= NOW + 3_000


def test_who_is_postponed_comes_back_in_line_at_the_rate() -> None:
    known, first = book(Schedule(), NOW, 10, 100, 600_000)
    known, second = book(known, NOW, 10, 100, 600_000)
    assert first.start_ms == NOW
    assert second.start_ms == pytest.approx(NOW + 100 * interval_ms(10))
    assert second.interval_ms == pytest.approx(1_000 / 10 / MARGIN)


def test_a_line_that_is_too_long_begins_anew() -> None:
    known, _ = book(Schedule(), NOW, 1, 601, 600_000)
    _, slots = book(known, NOW, 1, 1, 600_000)
    assert slots.start_ms == NOW
