"""A refused credential pauses one application; one call at a time tries whether it is taken again."""

import pytest
from prometheus_client import REGISTRY

from libs.clock import FakeClock
from services.senders import breaker
from services.senders.breaker import Breakers

SECONDS = 30.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breakers(clock: FakeClock) -> Breakers:
    return Breakers("test", clock, SECONDS)


def open_now() -> float | None:
    return REGISTRY.get_sample_value("automata_breaker_open", {"channel": "test"})


def test_nobody_is_paused_at_first(breakers: Breakers) -> None:
    assert breakers.reason("a") is None


def test_a_refused_credential_pauses_its_application_alone(breakers: Breakers) -> None:
    breakers.trip("a", "InvalidProviderToken")
    assert breakers.reason("a") == "InvalidProviderToken"
    assert breakers.reason("b") is None
    assert open_now() == 1


def test_after_the_pause_one_call_goes_through_and_the_others_wait_for_it(breakers: Breakers, clock: FakeClock) -> None:
    breakers.trip("a", "ExpiredProviderToken")
    clock.advance(SECONDS)
    assert [breakers.reason("a") for _ in range(3)] == [None, "ExpiredProviderToken", "ExpiredProviderToken"]
    clock.advance(SECONDS)
    assert breakers.reason("a") is None, "a probe that told nothing is followed by another"


def test_a_probe_that_is_refused_pauses_again(breakers: Breakers, clock: FakeClock) -> None:
    breakers.trip("a", "old")
    clock.advance(SECONDS)
    assert breakers.reason("a") is None
    clock.advance(1)
    breakers.trip("a", "new")
    clock.advance(SECONDS - 1)
    assert breakers.reason("a") == "new"


def test_a_credential_that_is_taken_ends_the_pause(breakers: Breakers, clock: FakeClock) -> None:
    breakers.trip("a", "refused")
    clock.advance(SECONDS)
    assert breakers.reason("a") is None
    breakers.heal("a")
    assert [breakers.reason("a") for _ in range(2)] == [None, None]
    assert open_now() == 0


def test_healing_who_is_not_paused_changes_nothing(breakers: Breakers) -> None:
    breakers.trip("a", "refused")
    breakers.heal("b")
    assert breakers.reason("a") == "refused"


def test_what_is_kept_is_bounded(breakers: Breakers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_APPLICATIONS", 2)
    for each in "abc":
        breakers.trip(each, "refused")
    assert [breakers.reason(each) for each in "abc"] == [None, "refused", "refused"]
