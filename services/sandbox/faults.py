"""Fault rules: how the sandbox is told to fail, and which rule a request meets."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.sandbox import apns, fcm

MAX_RULES = 100


class Rule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault. The first rule that fits a request decides; it replaces the provider's own verdict."""

    provider: Literal["apns", "fcm", "oauth"] | None = None
    """None: any. `oauth` is FCM's token endpoint, its token the account's e-mail address."""
    token_prefix: Annotated[str, Meta(max_length=4096)] = ""
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    reason: Annotated[str, Meta(pattern=r"^[A-Za-z_]{1,64}$")] | None = None
    """Apple's reason or FCM's error code; each brings its usual status, each status its usual reason."""
    retry_after: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    """Seconds, sent as Retry-After."""
    timestamp: Annotated[int, Meta(ge=0)] | None = None
    """Epoch milliseconds that go with APNs' 410."""
    latency_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0
    """Wait before the answer (or the cut); the request is recorded when it arrives."""
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, Meta(ge=1)] | None = None
    """How many requests meet the rule before it is spent; with `goaway`, how many connections."""
    hang: bool = False
    """Never answer."""
    close: bool = False
    """Cut the connection without an answer. With `goaway`: right after the GOAWAY, losing answers not yet written."""
    goaway: Annotated[int, Meta(ge=1)] | None = None
    """GOAWAY with every so-manieth request of a connection; later streams of it are not processed."""
    accept: bool = False
    """With `hang` or `close`: the message counts as delivered although the sender never hears of it."""


class RuleError(Exception):
    """A rule is not valid; `field` is its path, such as `[0].status`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


class ActiveRule(Struct):
    rule: Rule
    met: int = 0


_decode = msgspec.json.Decoder(list[Rule]).decode


def parse_rules(body: bytes) -> list[Rule]:
    """Decode and check a list of rules. Raises `RuleError` naming the field."""
    try:
        rules = _decode(body)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        raise RuleError(path.strip("`").lstrip("."), what) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RuleError("", f"not JSON: {error}") from None
    if len(rules) > MAX_RULES:
        raise RuleError("", f"at most {MAX_RULES} rules")
    for index, rule in enumerate(rules):
        _check(rule, f"[{index}]")
    return rules


def _check(rule: Rule, at: str) -> None:
    answer = rule.status is not None or rule.reason is not None
    if not (answer or rule.hang or rule.close or rule.goaway or rule.latency_ms):
        text = "the rule does nothing: give one of status, reason, latency_ms, hang, close, goaway"
        raise RuleError(at, text)
    silent = "hang" if rule.hang else "close" if rule.close else "goaway" if rule.goaway else None
    if silent and answer:
        raise RuleError(f"{at}.{silent}", "cannot go with status or reason")
    if rule.hang and (rule.close or rule.goaway):
        raise RuleError(f"{at}.hang", "cannot go with close or goaway")
    if rule.goaway and (rule.latency_ms or rule.probability != 1):
        raise RuleError(f"{at}.goaway", "cannot go with latency_ms or probability")
    if rule.accept and (rule.goaway or not (rule.hang or rule.close)):
        raise RuleError(f"{at}.accept", "goes with hang or close only")
    if not answer and (rule.retry_after is not None or rule.timestamp is not None):
        field = "retry_after" if rule.retry_after is not None else "timestamp"
        raise RuleError(f"{at}.{field}", "goes with status or reason only")
    _check_reason(rule, at)


def _check_reason(rule: Rule, at: str) -> None:
    if rule.reason is not None and rule.status is None and rule.reason not in _usual_statuses(rule.provider):
        raise RuleError(f"{at}.reason", "not a reason of this provider: give its status too")


def _usual_statuses(provider: str | None) -> set[str]:
    google = fcm.STATUS.keys() | fcm.PLAIN_STATUS.keys()
    return {"apns": set(apns.STATUS), "fcm": google, None: apns.STATUS.keys() & google}.get(provider, set())


class Faults:
    """The rules in force. Replacing them forgets how often the old ones were met."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._replies: list[ActiveRule] = []
        self._goaways: list[ActiveRule] = []
        self._all: list[ActiveRule] = []

    def replace(self, rules: list[Rule]) -> None:
        self._all = [ActiveRule(rule) for rule in rules]
        self._replies = [active for active in self._all if not active.rule.goaway]
        self._goaways = [active for active in self._all if active.rule.goaway]

    @property
    def wants_goaway(self) -> bool:
        return bool(self._goaways)

    def listing(self) -> list[dict[str, Any]]:
        """The rules as they were given, each with the number of requests it `met`."""
        return [{**msgspec.to_builtins(active.rule), "met": active.met} for active in self._all]

    def meet(self, provider: str, token: str) -> Rule | None:
        """The rule that decides this request, used up by one; None when the provider answers as it would."""
        if not self._replies:
            return None
        for active in self._replies:
            rule = active.rule
            if _fits(active, provider, token) and (rule.probability >= 1 or self._random() < rule.probability):
                active.met += 1
                return rule
        return None

    def goaway_rule(self, provider: str, token: str) -> ActiveRule | None:
        """The GOAWAY rule that counts this request; the caller raises `met` when it sends one."""
        for active in self._goaways:
            if _fits(active, provider, token):
                return active
        return None


def _fits(active: ActiveRule, provider: str, token: str) -> bool:
    rule = active.rule
    if rule.count is not None and active.met >= rule.count:
        return False
    return (rule.provider is None or rule.provider == provider) and token.startswith(rule.token_prefix)
