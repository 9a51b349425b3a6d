"""The status codes of a subscription (REF-002) and every way from one to another (DECISIONS, "Consent"). Pure.

`TABLE` has a row for each event and a column for each state; nothing else in this service decides on a status.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from libs.errors import PermissionDenied, ValidationFailed
from libs.rpc import Act

SUBSCRIBED = 1
UNSUBSCRIBED = -2
DISABLED_BY_API = -31
PENDING = -98
NEVER = frozenset({0, -99})
REFUSALS = frozenset({-22, -44, -45, -54, -61, -71})
"""What only the person's own act takes back, beside -2 and -31."""

_ANY_PUSH = {-10, -18, -19, -22}
CODES: Mapping[str, frozenset[int]] = {
    "AndroidPush": frozenset({-3, -4, -5, -6, -7, -8, -9, -11, -12} | _ANY_PUSH),
    "iOSPush": frozenset({-13, -14, -15, -16, -17} | _ANY_PUSH),
    "WebPush": frozenset({-20, -21, -23, -24} | _ANY_PUSH),
    "Email": frozenset(range(-45, -39)),
    "SMS": frozenset(range(-55, -49)),
    "KakaoTalk": frozenset(range(-65, -59)),
    "InAppMessage": frozenset(range(-74, -69)),
}
"""REF-002 §3 to §7: what can be wrong, by subscription type."""
REPORTING = frozenset({"AndroidPush", "iOSPush", "WebPush", "InAppMessage"})
"""Types that an SDK speaks for: it knows the device's permission."""
CONFIRMED = frozenset({"Email", "SMS"})
"""Types that may wait for a confirmation (double opt-in)."""

NOT_PENDING = "is not waiting for a confirmation"
NOT_OF_TYPE = "is not a status that this type of subscription can report"
NO_CONFIRMATION = "is for Email and SMS only"

State = Literal["active", "never", "pending", "error", "refused", "by_api", "unsubscribed"]
Event = Literal[
    "enable", "disable", "disable_by_api", "confirm", "report", "token_updated", "unconfirmed", "delivered", "rejected"
]  # fmt: skip
Row = Literal[
    "enable",
    "enable_by_person",
    "disable",
    "disable_by_api",
    "confirm",
    "granted",
    "reported_error",
    "reported_refusal",
    "token_updated",
    "unconfirmed",
    "delivered",
    "rejected_error",
    "rejected_refusal",
]
Cell = Literal["on", "off", "api", "wait", "code", "stay", "refuse"]
"""1, -2, -31, -98, the code that was told, as it is, or an error for who asks."""


class Cells(NamedTuple):
    active: Cell
    never: Cell
    pending: Cell
    error: Cell
    refused: Cell
    by_api: Cell
    unsubscribed: Cell


TABLE: Mapping[Row, Cells] = {
    "enable": Cells("stay", "on", "on", "on", "on", "on", "on"),
    # A confirmation comes from the address itself: who holds an app could have typed in anybody's.
    "enable_by_person": Cells("stay", "on", "refuse", "on", "on", "on", "on"),
    "disable": Cells("off", "off", "off", "off", "off", "off", "stay"),
    "disable_by_api": Cells("api", "api", "api", "api", "api", "stay", "stay"),
    "confirm": Cells("stay", "refuse", "on", "refuse", "refuse", "refuse", "refuse"),
    "granted": Cells("stay", "on", "stay", "on", "on", "stay", "stay"),
    "reported_error": Cells("code", "code", "stay", "code", "stay", "stay", "stay"),
    "reported_refusal": Cells("code", "code", "stay", "code", "code", "stay", "stay"),
    "token_updated": Cells("stay", "stay", "stay", "on", "stay", "stay", "stay"),
    # A confirmation was for the address before, and this one is to be confirmed too.
    "unconfirmed": Cells("wait", "wait", "stay", "wait", "stay", "stay", "stay"),
    "delivered": Cells("stay", "stay", "stay", "on", "stay", "stay", "stay"),
    "rejected_error": Cells("code", "stay", "stay", "stay", "stay", "stay", "stay"),
    # Whoever reported spam must not be reached again because an API call lifts what an API call set.
    "rejected_refusal": Cells("code", "code", "code", "code", "stay", "code", "stay"),
}


def state_of(status: int) -> State:
    if status > 0:
        return "active"
    if status in NEVER:
        return "never"
    named: dict[int, State] = {PENDING: "pending", DISABLED_BY_API: "by_api", UNSUBSCRIBED: "unsubscribed"}
    return named.get(status, "refused" if status in REFUSALS else "error")


def next_status(status: int, event: Event, *, kind: str, act: Act = "api", code: int = SUBSCRIBED) -> int:
    """The status after `event`. `kind` is the subscription's type; `code` is what was reported or why it was rejected.

    Raises `ValidationFailed` for a code that the type cannot have and for a confirmation that nobody waits for,
    `PermissionDenied` where a person's app tries to confirm an address.
    """
    cell: Cell = getattr(TABLE[_row(event, kind, act, code)], state_of(status))
    if cell == "refuse":
        if event == "enable":
            raise PermissionDenied(reason="confirmation_pending")
        raise ValidationFailed(fields={"subscription_status": NOT_PENDING})
    fixed = {"on": SUBSCRIBED, "off": UNSUBSCRIBED, "api": DISABLED_BY_API, "wait": PENDING}
    return {**fixed, "code": code, "stay": status}[cell]


def _row(event: Event, kind: str, act: Act, code: int) -> Row:
    if event == "enable":
        return "enable_by_person" if act in ("user", "sdk") else "enable"
    if event != "report" and event != "rejected":
        return event
    if event == "report" and kind in REPORTING and code == SUBSCRIBED:
        return "granted"
    if code not in CODES[kind] or (event == "report" and kind not in REPORTING):
        raise ValidationFailed(fields={"subscription_status": NOT_OF_TYPE})
    refusal = code in REFUSALS
    if event == "report":
        return "reported_refusal" if refusal else "reported_error"
    return "rejected_refusal" if refusal else "rejected_error"


def first_status(kind: str, *, double_opt_in: bool) -> int:
    """Of a new subscription. Raises `ValidationFailed` where the type knows no confirmation."""
    if not double_opt_in:
        return SUBSCRIBED
    if kind not in CONFIRMED:
        raise ValidationFailed(fields={"double_opt_in": NO_CONFIRMATION})
    return PENDING


def inherited(status: int, former: int) -> int:
    """Of a subscription that takes over the token of another one: what was refused there is refused here too, and an
    address that waits for its confirmation goes on waiting."""
    before, stronger = state_of(former), ("refused", "by_api", "unsubscribed")
    return former if before in (*stronger, "pending") and state_of(status) not in stronger else status


def fact_kind(event: Event, status: int) -> str:
    """How the history calls a change to `status`: the person's act, another's, or a fault of the device."""
    if event == "confirm":
        return "confirmed"
    if status > 0:
        return "subscribed"
    if status == UNSUBSCRIBED or status in REFUSALS:
        return "unsubscribed"
    if status == PENDING:
        return "status_changed"
    return "error" if event == "report" else "disabled"
