"""The fold gives one result for any order and any repetition of any events (R3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.message import FAILING, KINDS, STATUSES, Event, Kind, fold
from tests.events import event_sets


@given(event_sets(), st.data())
def test_any_order_and_repetition_gives_the_same_result(events: list[Event], data: st.DataObject) -> None:
    repeated = events + data.draw(st.lists(st.sampled_from(events), max_size=10))
    assert fold(data.draw(st.permutations(repeated))) == fold(events)


@given(event_sets())
def test_the_status_is_one_of_the_table(events: list[Event]) -> None:
    assert fold(events).status in STATUSES


@given(event_sets())
def test_a_person_having_it_outranks_every_other_fact(events: list[Event]) -> None:
    kinds = {event.kind for event in events}
    if "converted" in kinds:
        assert fold(events).status == "converted"
    elif "received" in kinds:
        assert fold(events).status == "received"


def _event(kind: str, attempt: int = 1, key: str = "", at: int = 0, reason: str | None = None) -> Event:
    assert kind in KINDS
    return Event("m", kind, attempt, key, at, reason)


def test_a_sent_attempt_outranks_a_later_failure() -> None:
    assert fold([_event("created"), _event("sent"), _event("failed", 2)]).status == "successful"


def test_a_bounce_withdraws_the_sending_of_its_own_attempt_only() -> None:
    assert fold([_event("sent", 1), _event("bounced", 1)]).status == "failed"
    assert fold([_event("sent", 1), _event("bounced", 1), _event("sent", 2)]).status == "successful"


def test_a_missing_receipt_withdraws_the_sending() -> None:
    assert fold([_event("sent"), _event("failed", reason="receipt_timeout")]).status == "failed"


def test_cancelled_holds_unless_a_later_attempt_began() -> None:
    assert fold([_event("created"), _event("cancelled")]).status == "cancelled"
    assert fold([_event("created"), _event("cancelled"), _event("retried", 2)]).status == "pending"


def test_a_cancelled_message_that_was_accepted_tells_the_truth_and_keeps_the_cancellation() -> None:
    found = fold([_event("created"), _event("cancelled", at=5), _event("sent", at=9)])
    assert (found.status, found.cancelled_at_ms, found.sent_at_ms) == ("successful", 5, 9)


def test_the_highest_attempt_decides_and_failed_goes_before_errored() -> None:
    events = [_event("errored", 1, "a"), _event("retried", 2), _event("errored", 2, "b"), _event("failed", 2, "c")]
    assert fold(events[:2]).status == "pending"
    assert fold(events[:3]).status == "errored"
    assert fold(events).status == "failed"


def test_among_equals_the_smallest_time_then_key_gives_time_and_reason() -> None:
    events = [_event("failed", key="b", at=3, reason="late"), _event("failed", key="a", at=3, reason="first")]
    found = fold(events)
    assert (found.reason, found.failed_at_ms) == ("first", 3)


def test_failing_kinds_are_kinds() -> None:
    assert set(KINDS) >= FAILING


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_sent_again_is_pending_whatever_comes_late_of_the_attempt_before_but_success(end: Kind) -> None:
    before = [Event("m", "created", 1, "", 0), Event("m", end, 1, "", 10, "Unregistered")]
    again = [*before, Event("m", "retried", 2, "resend:r", 20, "resend")]
    late = Event("m", "errored", 1, "late", 30, "timeout")
    assert fold(again).status == fold([*again, late]).status == "pending"
    assert fold([*again, late, Event("m", "sent", 1, "later", 40)]).status == "successful"
    assert fold([*again, Event("m", "cancelled", 2, "", 50)]).status == "cancelled"
