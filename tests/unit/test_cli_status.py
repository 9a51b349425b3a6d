"""What `automata status` shows of open breakers."""

from libs.rpc import OpenBreaker
from services.cli.status import as_objects, as_row
from services.cli.supervisor import ProcessStatus

NAMES = ("nats", "lifecycle", "sender-apns", "sender-apns-fra", "sender-fcm")
PROCESSES = [ProcessStatus(name, 1, "running", True, 0, None, 1.0) for name in NAMES]
BREAKER = OpenBreaker("a1", "apns", "ServiceUnavailable", "outage", 1_764_000_000_000, 1_764_000_030_000, 3, 12)


def test_programs_find_the_same_objects_as_ever() -> None:
    for breakers in (None, [BREAKER]):
        found = as_objects(PROCESSES, breakers)
        assert [each["name"] for each in found] == list(NAMES)
        assert all({"pid", "state", "ready", "restarts", "last_exit", "started_at"} <= each.keys() for each in found)


def test_a_senders_object_names_the_breakers_of_its_provider() -> None:
    named = {each["name"]: each.get("breakers") for each in as_objects(PROCESSES, [BREAKER])}
    assert named == {
        "nats": None,
        "lifecycle": None,
        "sender-apns": [BREAKER],
        "sender-apns-fra": [BREAKER],
        "sender-fcm": [],
    }


def test_while_nobody_knows_the_breakers_nothing_is_said_of_them() -> None:
    assert not any("breakers" in each for each in as_objects(PROCESSES, None))


def test_a_row_says_what_is_broken_since_when_and_what_waits() -> None:
    assert as_row(BREAKER) == ("a1", "apns", "open", "outage: ServiceUnavailable", "2025-11-24 16:00", "3", "12")
