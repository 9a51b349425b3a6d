"""When the SDK tries again (SEQ-001 §7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.client.retry import Retries


def test_pauses_double_to_a_minute_and_end_after_five_tries() -> None:
    retries = Retries(attempts=9)
    assert [retries.pause(n, chance=lambda: 0.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [Retries().pause(n, chance=lambda: 0.0) for n in (4, 5)] == [8, None]


@given(attempt=st.integers(1, 4), chance=st.floats(0, 1, exclude_max=True), floor=st.floats(0, 100))
def test_a_pause_is_shortened_by_half_at_most_and_never_below_retry_after(
    attempt: int, chance: float, floor: float
) -> None:
    pause = Retries().pause(attempt, floor, chance=lambda: chance)
    assert pause is not None
    assert pause == pytest.approx(max(floor, 2.0 ** (attempt - 1) * (1 - chance / 2)))


def test_one_attempt_is_no_repetition() -> None:
    assert Retries(attempts=1).pause(1) is None
