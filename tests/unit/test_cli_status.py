"""What `automata status` shows of open breakers, and of rates."""

import pytest

from libs.rates import Rate
from libs.rpc import OpenBreaker
from services.cli.status import Seen, as_objects, as_rate_row, as_row
from services.cli.supervisor import ProcessStatus

NAMES = ("nats", "lifecycle", "sender-apns", "sender-apns-fra", "sender-fcm")
PROCESSES = [ProcessStatus(name, 1, "running", True, 0, None, 1.0) for name in NAMES]
BREAKER = OpenBreaker("a1", "apns", "ServiceUnavailable", "outage", 1_764_000_000_000, 1_764_000_030_000, 3, 12)
RATE = Rate("a1", "apns", 500.0, 250.0, 249.8, 2)


def test_programs_find_the_same_objects_as_ever() -> None:
    for breakers in (None, [BREAKER]):
        found = as_objects(Seen(PROCESSES, breakers))
        assert [each["name"] for each in found] == list(NAMES)
        assert all({"pid", "state", "ready", "restarts", "last_exit", "started_at"} <= each.keys() for each in found)


def test_a_senders_object_names_the_breakers_of_its_provider() -> None:
    named = {each["name"]: each.get("breakers") for each in as_objects(Seen(PROCESSES, [BREAKER]))}
    assert named == {
        "nats": None,
        "lifecycle": None,
        "sender-apns": [BREAKER],
        "sender-apns-fra": [BREAKER],
        "sender-fcm": [],
    }


def test_a_senders_object_names_the_rates_of_its_provider_over_all_senders() -> None:
    named = {each["name"]: each.get("rates") for each in as_objects(Seen(PROCESSES, None, [RATE]))}
    assert named == {
        "nats": None,
        "lifecycle": None,
        "sender-apns": [RATE],
        "sender-apns-fra": [RATE],
        "sender-fcm": [],
    }


def test_while_nobody_knows_breakers_or_rates_nothing_is_said_of_them() -> None:
    assert not any({"breakers", "rates"} & each.keys() for each in as_objects(Seen(PROCESSES)))


def test_a_row_says_what_is_broken_since_when_and_what_waits() -> None:
    assert as_row(BREAKER) == ("a1", "apns", "open", "outage: ServiceUnavailable", "2025-11-24 16:00", "3", "12")


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (RATE, ("500", "250", "249.8", "2")),
        (Rate("a1", "apns", 100_000.0, 100_000.0, 12_345.6, 3), ("100000", "100000", "12345.6", "3")),
        (Rate("a1", "apns", 0.005, 0.005, 0.0, 0), ("0.005", "0.005", "0", "0")),
        (Rate("a1", "apns", None, None, 1.25, 1), ("none", "any", "1.25", "1")),
        (Rate("a1", "apns", None, 0.0, 0.0, 1), ("none", "0", "0", "1")),
    ],
)
def test_a_row_of_a_rate_says_what_is_set_what_is_allowed_and_what_is_achieved(
    rate: Rate, told: tuple[str, ...]
) -> None:
    assert as_rate_row(rate) == ("a1", "apns", *told)
