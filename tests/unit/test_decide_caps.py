"""Frequency caps at the dispatcher: who is counted, for whom, and what a full one means."""

from typing import Any

import msgspec
import pytest

from libs.envelope import Accepted, Lane
from libs.policy import FrequencyCap
from libs.rpc import Capped, Recipient, SendToReserve
from services.dispatcher.caps import to_count, too_many
from services.dispatcher.decide import refused

INFO = Accepted("m1", "s1", 1, b"sealed", 2**52)
AD = Accepted("m2", "s2", 1, b"sealed", 2**52, "ad")
SOMEBODY = Recipient("s1", "iOSPush", 1, b"", "token", 7, 0, False, b"k", None, True)
RECIPIENTS = {"s1": SOMEBODY, "s2": msgspec.structs.replace(SOMEBODY, subscription_id="s2", user_id="u")}
ALL, ADS = FrequencyCap(10, "day"), FrequencyCap(2, "hour", "ad")


@pytest.mark.parametrize(
    ("caps", "lane", "counted"),
    [
        ([ALL], "normal", ["m1", "m2"]),
        ([ADS], "normal", ["m2"]),
        ([ADS, ALL], "bulk", ["m1", "m2"]),
        ([FrequencyCap(1, "week", "info")], "bulk", ["m1"]),
        ([ADS, ALL], "critical", []),
    ],
)
def test_only_what_a_cap_speaks_of_is_counted(caps: list[FrequencyCap], lane: Lane, counted: list[str]) -> None:
    assert [each.message_id for each in to_count([INFO, AD], RECIPIENTS, caps, lane)] == counted


def test_a_person_is_counted_on_all_their_devices_and_a_stranger_on_one() -> None:
    assert to_count([INFO, AD], RECIPIENTS, [ALL], "normal") == [
        SendToReserve("m1", "s1", "info"),
        SendToReserve("m2", "u", "ad"),
    ]


def fact_of(cap: FrequencyCap) -> Any:
    return refused(AD, too_many(Capped("m2", cap, 2, 1_800_000_000_000)), 5)


def test_one_too_many_waits_until_there_is_room_and_says_which_rule_counted_what() -> None:
    fact = fact_of(ADS)
    assert (fact.kind, fact.reason, fact.key) == ("held", "frequency_cap", "frequency_cap:1800000000000")
    assert fact.hold_until_ms == 1_800_000_000_000
    assert fact.data == {"limit": 2, "per": "hour", "category": "ad", "count": 2, "until_ms": 1_800_000_000_000}


def test_or_fails_where_the_application_chose_so() -> None:
    fact = fact_of(msgspec.structs.replace(ADS, action="drop"))
    assert (fact.kind, fact.reason, fact.key) == ("failed", "frequency_cap", "dispatch:frequency_cap")
    assert (fact.hold_until_ms, fact.data) == (None, fact_of(ADS).data)
