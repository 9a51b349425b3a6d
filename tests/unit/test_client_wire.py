"""Requests of the SDK to bytes, answers from bytes."""

import pytest

from libs.client import wire
from libs.client.retry import LONGEST_WAIT, Retries


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_be_another_path_is_not_asked_for(name: str) -> None:
    """`/users/../subscriptions` is all subscriptions to whoever reads it."""
    with pytest.raises(ValueError, match="external_id"):
        wire.request("GET", "/users/{external_id}/subscriptions", parameters={"external_id": name})


@pytest.mark.parametrize(("name", "segment"), [("a/b", "a%2Fb"), ("...", "..."), ("?x#", "%3Fx%23"), ("%2e", "%252e")])
def test_any_other_name_is_one_segment(name: str, segment: str) -> None:
    assert wire.request("GET", "/users/{id}", parameters={"id": name}).path == f"/users/{segment}"


@pytest.mark.parametrize("text", ["", "²", "-1", "1.5", "soon", "Wed, 21 Oct GMT", "GMT"])
def test_a_retry_after_that_is_none_says_nothing(text: str) -> None:
    assert wire.retry_after({"retry-after": text}) is None


def test_a_retry_after_is_seconds_or_a_date() -> None:
    assert wire.retry_after({"retry-after": "7"}) == 7
    assert wire.retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_who_is_told_to_wait_for_long_is_told_so_himself() -> None:
    assert Retries().pause(1, LONGEST_WAIT) == LONGEST_WAIT
    assert Retries().pause(1, LONGEST_WAIT + 1) is None
