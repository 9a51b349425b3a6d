"""What a provider's 429 does to an application's rate: halved at once, grown back, forgotten."""

import pytest

from services.senders.throttle import LEAST_ACHIEVED, LONGEST_PAUSE_MS, Limit, Refusal, cut, join

NOW = 1_767_225_600_000


def refused(
    at_ms: int = NOW, knob: float | None = 100.0, retry_after: float | None = None, achieved: float = 40.0
) -> Refusal:
    return Refusal(at_ms, retry_after, knob, achieved, "a")


def test_a_refusal_halves_the_knob() -> None:
    limit = cut(None, refused())
    assert (limit.full, limit.rate_at(NOW)) == (100, 50)


def test_without_a_knob_what_was_achieved_is_halved() -> None:
    limit = cut(None, refused(knob=None))
    assert (limit.full, limit.rate_at(NOW)) == (40, 20)


def test_who_has_hardly_begun_is_not_stopped_altogether() -> None:
    assert cut(None, refused(knob=None, achieved=0)).full == LEAST_ACHIEVED


def test_it_is_cut_once_a_second() -> None:
    limit = cut(None, refused())
    assert cut(limit, refused(NOW + 999)).rate_at(NOW + 999) == pytest.approx(50 + 5 * 0.999)
    assert cut(limit, refused(NOW + 1_000)).rate_at(NOW + 1_000) == pytest.approx(27.5)


def test_it_grows_by_a_twentieth_of_the_knob_a_second_up_to_it() -> None:
    limit = cut(None, refused())
    assert limit.rate_at(NOW + 2_000) == pytest.approx(60)
    assert limit.rate_at(NOW + 60_000) == 100
    assert [limit.is_over(NOW + ms) for ms in (0, 9_900, 10_000)] == [False, False, True]


def test_a_refusal_after_it_was_over_begins_anew() -> None:
    limit = cut(cut(None, refused()), refused(NOW + 20_000, knob=400))
    assert (limit.full, limit.rate_at(NOW + 20_000)) == (400, 200)


def test_a_lowered_knob_is_cut_from_where_it_is() -> None:
    limit = cut(cut(None, refused()), refused(NOW + 1_000, knob=10))
    assert limit.rate_at(NOW + 1_000) == 5


def test_it_never_falls_to_nothing() -> None:
    limit = cut(None, refused(knob=0.05))
    for second in range(1, 20):
        limit = cut(limit, refused(NOW + second * 1_000, knob=0.05))
    assert limit.rate_at(limit.at_ms) > 0


@pytest.mark.parametrize(("told", "kept"), [(7.0, 7_000), (86_400.0, LONGEST_PAUSE_MS)])
def test_a_retry_after_pauses_all_and_is_bounded(told: float, kept: int) -> None:
    limit = cut(None, refused(retry_after=told))
    assert limit.paused_ms == NOW + kept
    assert not limit.is_over(NOW + kept - 1)


def test_a_second_retry_after_counts_although_nothing_is_cut_again() -> None:
    limit = cut(cut(None, refused(retry_after=7)), refused(NOW + 10, retry_after=9))
    assert limit.paused_ms == NOW + 9_010
    assert cut(limit, refused(NOW + 20)).paused_ms == NOW + 9_010


def test_processes_without_a_knob_add_up_each_once() -> None:
    limit = cut(None, refused(knob=None))
    limit = join(join(limit, "b", 60), "b", 60)
    assert (limit.full, limit.rate_at(NOW)) == (100, 50)


def test_nobody_adds_to_a_knob() -> None:
    limit = cut(None, refused())
    assert join(limit, "b", 60) == limit


def test_an_old_limit_is_as_good_as_none() -> None:
    assert Limit(100, 1, NOW).is_over(NOW + 30_000)
