"""Every rule about a subscription's status, told by the table alone (REF-002, DECISIONS "Consent")."""

import contextlib
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import PermissionDenied, SignalError, ValidationFailed
from libs.rpc import Act
from services.subscription.status import (
    CODES,
    CONFIRMED,
    REFUSALS,
    REPORTING,
    TABLE,
    Event,
    Row,
    fact_kind,
    first_status,
    inherited,
    next_status,
    state_of,
)

TYPES = sorted(CODES)
REFUSED = sorted(REFUSALS | {-2, -31})
ERRORS = sorted(set().union(*CODES.values()) - REFUSALS)
EVERY_STATUS = sorted({1, 0, -99, -98, *REFUSED, *ERRORS})
ACTS: tuple[Act, ...] = get_args(Act)
EVENTS: tuple[Event, ...] = get_args(Event)


def after(status: int, event: Event, kind: str = "iOSPush", **more: Any) -> int:
    return next_status(status, event, kind=kind, **more)


def test_the_table_has_a_row_for_everything_that_can_happen() -> None:
    assert set(TABLE) == set(get_args(Row))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((1, "active"), (2, "active"), (0, "never"), (-99, "never")),
        *((-98, "pending"), (-2, "unsubscribed"), (-31, "by_api")),
        *((code, "refused") for code in sorted(REFUSALS)),
        *((code, "error") for code in ERRORS),
    ],
)
def test_a_code_is_one_state(status: int, state: str) -> None:
    assert state_of(status) == state


# -2: the person's own choice -----------------------------------------------------------------------------------------


@given(
    st.sampled_from([event for event in EVENTS if event != "enable"]),
    st.sampled_from(TYPES),
    st.sampled_from(ACTS),
    st.sampled_from(EVERY_STATUS),
)
def test_nothing_but_enable_takes_a_subscription_out_of_minus_2(event: Event, kind: str, act: Act, code: int) -> None:
    with contextlib.suppress(ValidationFailed):
        assert after(-2, event, kind, act=act, code=code) == -2


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("status", [each for each in EVERY_STATUS if each not in (1, -98)])
def test_enable_subscribes_from_anywhere(status: int, act: Act) -> None:
    assert after(status, "enable", act=act) == 1


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_disable_is_the_persons_choice_from_anywhere(status: int) -> None:
    assert after(status, "disable") == -2


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_the_api_disables_whoever_has_not_unsubscribed(status: int) -> None:
    assert after(status, "disable_by_api") == (-2 if status == -2 else -31)


# what heals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["token_updated", "delivered"])
@pytest.mark.parametrize("status", EVERY_STATUS)
def test_a_new_token_or_a_delivery_heals_errors_and_nothing_else(status: int, event: Event) -> None:
    assert after(status, event) == (1 if status in ERRORS else status)


@pytest.mark.parametrize("status", EVERY_STATUS)
@pytest.mark.parametrize("kind", sorted(REPORTING))
def test_permission_that_was_granted_heals_all_but_what_the_person_or_the_api_switched_off(
    kind: str, status: int
) -> None:
    assert after(status, "report", kind, code=1) == (status if status in (-2, -31, -98) else 1)


@pytest.mark.parametrize("kind", sorted(set(TYPES) - REPORTING))
@pytest.mark.parametrize("code", [1, -44, -50, -60, -10])
def test_of_an_address_no_device_can_tell(kind: str, code: int) -> None:
    with pytest.raises(ValidationFailed):
        after(-2, "report", kind, code=code)


# what is reported ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(REPORTING))
@pytest.mark.parametrize("code", EVERY_STATUS)
def test_a_device_reports_the_codes_of_its_own_type(kind: str, code: int) -> None:
    if code == 1 or code in CODES[kind]:
        assert after(1, "report", kind, code=code) == code
    else:
        with pytest.raises(ValidationFailed) as refused:
            after(1, "report", kind, code=code)
        assert list(refused.value.details["fields"]) == ["subscription_status"]


@pytest.mark.parametrize(
    ("kind", "fits", "others"),
    [
        ("AndroidPush", {-3, -9, -12, -10, -18, -19, -22}, {-13, -20, -70, -2, -31, -98, 0, 2}),
        ("iOSPush", {-13, -17, -10, -18, -19, -22}, {-3, -20, -71, -2}),
        ("WebPush", {-20, -21, -23, -24, -10, -22}, {-3, -13, -2}),
        ("InAppMessage", {-70, -71, -74}, {-22, -75, -2}),
    ],
)
def test_codes_are_those_of_the_reference(kind: str, fits: set[int], others: set[int]) -> None:
    assert fits <= CODES[kind]
    assert not others & CODES[kind]


@pytest.mark.parametrize("status", [-2, -31, -22])
def test_an_error_of_the_device_does_not_weaken_a_refusal(status: int) -> None:
    assert after(status, "report", code=-14) == status


@pytest.mark.parametrize(("status", "expected"), [(1, -22), (-18, -22), (0, -22), (-2, -2), (-31, -31)])
def test_permission_that_was_withdrawn_is_a_refusal(status: int, expected: int) -> None:
    assert after(status, "report", code=-22) == expected


# what a provider rejects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_a_dead_address_switches_off_what_was_on(status: int) -> None:
    assert after(status, "rejected", code=-10) == (-10 if status == 1 else status)


@pytest.mark.parametrize("status", [1, 0, -98, -42, -31])
def test_whoever_reports_spam_is_left_alone_even_if_the_api_lifts_its_own_stop(status: int) -> None:
    assert after(status, "rejected", "Email", code=-44) == -44


@pytest.mark.parametrize("status", [-2, -45])
def test_a_refusal_stays_the_first_one(status: int) -> None:
    assert after(status, "rejected", "Email", code=-44) == status


def test_a_rejection_with_a_code_of_another_type_is_refused() -> None:
    with pytest.raises(ValidationFailed):
        after(1, "rejected", "Email", code=-10)


# double opt-in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_addresses_may_wait_for_a_confirmation(kind: str) -> None:
    assert first_status(kind, double_opt_in=False) == 1
    if kind in CONFIRMED:
        assert first_status(kind, double_opt_in=True) == -98
    else:
        with pytest.raises(ValidationFailed):
            first_status(kind, double_opt_in=True)


def test_a_confirmation_subscribes_and_may_come_twice() -> None:
    assert after(-98, "confirm", "Email") == after(1, "confirm", "Email") == 1


@pytest.mark.parametrize("status", [each for each in EVERY_STATUS if each not in (1, -98)])
def test_nobody_is_confirmed_who_does_not_wait_for_it(status: int) -> None:
    with pytest.raises(ValidationFailed):
        after(status, "confirm", "Email")


def test_the_api_confirms_by_enabling_but_the_persons_app_cannot() -> None:
    assert after(-98, "enable", "Email", act="api") == 1
    for act in ("user", "sdk"):
        with pytest.raises(PermissionDenied):
            after(-98, "enable", "Email", act=act)


@pytest.mark.parametrize("event", ["token_updated", "delivered"])
def test_what_waits_for_a_confirmation_goes_on_waiting(event: Event) -> None:
    assert after(-98, event, "Email") == -98


# tokens that change hands --------------------------------------------------------------------------------------------


@given(st.sampled_from(EVERY_STATUS), st.sampled_from(EVERY_STATUS))
def test_a_refusal_goes_along_with_the_token(status: int, former: int) -> None:
    expected = former if former in {*REFUSED, -98} and status not in REFUSED else status
    assert inherited(status, former) == expected


# all in all ----------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(EVERY_STATUS),
    st.sampled_from(EVENTS),
    st.sampled_from(TYPES),
    st.sampled_from(ACTS),
    st.sampled_from(EVERY_STATUS),
)
def test_only_consent_and_healing_subscribe_anybody(status: int, event: Event, kind: str, act: Act, code: int) -> None:
    try:
        found = after(status, event, kind, act=act, code=code)
    except SignalError:
        return
    if found > 0 and status <= 0:
        assert event in ("enable", "confirm", "report", "token_updated", "delivered")
        assert status not in REFUSED or event in ("enable", "report")
        assert status not in (-2, -31) or event == "enable"
    assert found in EVERY_STATUS


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        ("enable", 1, "subscribed"),
        ("report", 1, "subscribed"),
        ("confirm", 1, "confirmed"),
        ("disable", -2, "unsubscribed"),
        ("report", -22, "unsubscribed"),
        ("rejected", -45, "unsubscribed"),
        ("disable_by_api", -31, "disabled"),
        ("rejected", -10, "disabled"),
        ("report", -14, "error"),
    ],
)
def test_the_history_tells_whose_act_it_was(event: Event, status: int, kind: str) -> None:
    assert fact_kind(event, status) == kind
