"""A release reads what the next one says: between services and from storage a new field hurts nobody.

What people say is read strictly: a field that nobody knows is a mistake.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from libs import envelope, policy, rpc
from libs.api import application, imports, subscriptions
from libs.api import policy as stated
from libs.contract import schemas
from libs.contract.verbs import verbs
from libs.errors import ValidationFailed
from services.application.policy import checked, policy_of
from services.ingest.routes import ROUTES

NIGHT: dict[str, Any] = {"start": "22:00", "end": "07:00"}
DAILY: dict[str, Any] = {"limit": 2, "per": "day"}
NEW: dict[str, Any] = {"new": {"of": "the next release"}}
RULES = policy.Policy(quiet_hours=policy.QuietHours("22:00", "07:00"), frequency_caps=(policy.FrequencyCap(2, "day"),))
BETWEEN_SERVICES = [*schemas.ON_STREAMS.values(), *(kind for verb in verbs() for kind in (verb.request, verb.reply))]
ANSWERS = [route.answer for route in ROUTES if isinstance(route.answer, type)]
FROM_OUTSIDE = [kind for route in ROUTES for kind in (route.body, route.query) if kind is not None]
OPEN = {application.Settings}
"""Where names of the application's own may stand beside ours."""


def within(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The struct and all that it can contain."""
    found: set[type[msgspec.Struct]] = set()
    ahead = [inspect.type_info(kind)]
    while ahead:
        one = ahead.pop()
        if isinstance(one, inspect.StructType):
            if one.cls in found:
                continue
            found.add(one.cls)
            yield one.cls
        for part in (getattr(one, name) for name in one.__struct_fields__):
            ahead += _types(part)


def _types(part: Any) -> list[inspect.Type]:
    if isinstance(part, inspect.Type):
        return [part]
    if isinstance(part, inspect.Field):
        return [part.type]
    return [each for inner in part for each in _types(inner)] if isinstance(part, tuple | list) else []


def is_strict(kind: type[msgspec.Struct]) -> bool:
    return kind.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("kind", BETWEEN_SERVICES, ids=lambda kind: kind.__name__)
def test_what_services_tell_one_another_is_read_leniently_at_every_level(kind: type[msgspec.Struct]) -> None:
    assert [each for each in within(kind) if is_strict(each)] == []


@pytest.mark.parametrize("kind", set(ANSWERS), ids=lambda kind: kind.__name__)
def test_answers_are_read_leniently_at_every_level(kind: type[msgspec.Struct]) -> None:
    """By the Python client, which may be older than the gateway."""
    assert [each for each in within(kind) if is_strict(each) and each not in OPEN] == []


@pytest.mark.parametrize("kind", set(FROM_OUTSIDE), ids=lambda kind: kind.__name__)
def test_what_people_say_is_read_strictly_at_every_level(kind: type[msgspec.Struct]) -> None:
    assert [each for each in within(kind) if not is_strict(each) and each not in OPEN] == []


def test_the_walk_goes_into_lists_tuples_and_choices() -> None:
    assert {policy.QuietHours, policy.FrequencyCap} <= set(within(rpc.PolicyFound))
    assert policy.QuietHours in set(within(rpc.Resolved))
    assert {envelope.Push, envelope.Button} <= set(within(envelope.SendEnvelope))
    assert {stated.QuietHours, stated.FrequencyCap} <= set(within(application.ApplicationUpdate))


def test_a_rule_with_a_new_field_is_still_the_rule() -> None:
    raw: dict[str, Any] = {"policy": {"quiet_hours": {**NIGHT, **NEW}, "frequency_caps": [{**DAILY, **NEW}], **NEW}}
    assert read(raw, rpc.PolicyFound).policy == RULES
    person = rpc.Recipient("s", "iOSPush", 1, b"", "token", 1, 0, False, b"", None, True)
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(person))
    told[-1] = {**NIGHT, **NEW}
    assert read([*told, NEW], rpc.Recipient).quiet_hours == RULES.quiet_hours


def read(raw: Any, kind: type[Any]) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=kind)


def test_settings_that_a_later_release_stored_count() -> None:
    stored = {"quiet_hours": {**NIGHT, **NEW}, "frequency_caps": [{**DAILY, **NEW}]}
    assert policy_of(stored) == RULES


def test_settings_with_a_field_that_nobody_knows_are_not_set() -> None:
    for settings, field in (
        ({"quiet_hours": {**NIGHT, **NEW}}, "settings.quiet_hours.new"),
        ({"frequency_caps": [{**DAILY, **NEW}]}, "settings.frequency_caps.0.new"),
    ):
        with pytest.raises(ValidationFailed) as refused:
            checked(settings)
        assert refused.value.details["fields"] == {field: "is not a known field"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (subscriptions.SubscriptionUpdate, {"quiet_hours": {**NIGHT, **NEW}}),
        (subscriptions.SubscriptionUpdate, {"device_info": NEW}),
        (imports.ImportLine, {"type": "Email", "token": "a@example.com", "quiet_hours": {**NIGHT, **NEW}}),
        (application.ApplicationUpdate, {"settings": {"quiet_hours": {**NIGHT, **NEW}}}),
        (application.ApplicationUpdate, {"settings": {"frequency_caps": [{**DAILY, **NEW}]}}),
    ],
)
def test_a_request_with_a_field_that_nobody_knows_is_refused(kind: type[Any], body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `new`"):
        msgspec.json.decode(msgspec.json.encode(body), type=kind)
