"""The values that a timeline's sentences name, found in an event and written as its reader reads them."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from libs.localtime import Zone, is_zone, local_text
from libs.retry import TABLE, schedule_for, waits_for
from libs.rpc import EventView, MessageView
from services.ingest.errors import Language
from services.ingest.why_sentences import PERIODS, UNSAID, Sentence

PROVIDERS = {"apns": "APNs", "fcm": "FCM"}
NOT_TOLD = "?"
_PLAIN = (
    "subscription_status",
    "retry_class",
    "action",
    "disable",
    "template_version",
    "template_locale",
    "backup_at",
    "start",
    "end",
    "limit",
    "count",
    "category",
    "outstanding",
    "breaker_reason",
    "last_reason",
    "last_status",
    "hours",
    "send_at_local",
    "region",
    "sent_from",
)
"""Told as they are."""
_MOMENTS = {
    "probe_at": "probe_at_ms",
    "deadline": "deadline_ms",
    "retry_at": "retry_at_ms",
    "sent_at": "sent_at_ms",
}
_LAST_MS = 250_000_000_000_000
"""Year 9892: what is written as a date must be one."""
_UNITS = ((86_400, "d", "일"), (3_600, "h", "시간"), (60, "min", "분"), (1, "s", "초"))


def say(sentence: Sentence, told: Mapping[str, Any], language: Language) -> str:
    return _of(sentence, language).format_map(told)


def told_by(event: EventView, message: MessageView, language: Language) -> dict[str, Any]:
    """Every value that a sentence or a clause may name."""
    data = event.data
    plain = {name: NOT_TOLD if data.get(name) is None else data[name] for name in _PLAIN}
    zone = _zone(data)
    period = PERIODS.get(str(data.get("per")))
    return {
        **plain,
        **{name: _moment(data.get(key), zone) for name, key in _MOMENTS.items()},
        "scheduled_at": _moment(_unix_ms(data.get("scheduled_at")), zone),
        "failure": failure(event),
        "until": _moment(data.get("due_at_ms", data.get("until_ms")), zone),
        "retry_after": _seconds(data.get("retry_after")),
        "rate": _number(data.get("rate")),
        "knob": _number(data.get("knob")),
        "waited": _duration(data.get("waited_ms"), language),
        "oldest": _duration(data.get("oldest_ms"), language),
        "per": NOT_TOLD if period is None else _of(period, language),
        "reason": event.reason or _of(UNSAID, language),
        "provider": PROVIDERS.get(message.channel, message.channel),
        "attempt": event.attempt,
        "revision": revision(event),
        "tried": tried(event, message),
        "attempts": attempts(event, message),
    }


def revision(event: EventView) -> int:
    """Of a `scheduled` event: how often the time had been set by then, this once included."""
    return int(event.key) if event.key.isdecimal() else 1


def failure(event: EventView) -> str:
    """The class of the failure after which an attempt waited; empty: it waited for something else."""
    before, _, retry_class = str(event.data.get("waited_for", "")).partition(":")
    return retry_class if before == "retry" else ""


def attempts(event: EventView, message: MessageView) -> int | None:
    retry_class = event.data.get("retry_class")
    return schedule_for(retry_class, message.lane).attempts if retry_class in TABLE else None


def tried(event: EventView, message: MessageView) -> int:
    """The attempt as the schedule of retries counts it: not what was held, came before a resend or failed otherwise."""
    earlier = [e for e in message.events if e.kind == "retried" and e.attempt <= event.attempt]
    since = max((e.attempt for e in earlier if e.reason == "resend"), default=0)
    others = {waits_for(name) for name in TABLE if name != event.data.get("retry_class")}
    failed_otherwise = sum(e.attempt > since and e.data.get("waited_for") in others for e in earlier)
    return event.attempt - sum(int(e.data.get("uncounted", 0)) for e in earlier) - failed_otherwise


def _of(sentence: Sentence, language: Language) -> str:
    return sentence.ko if language == "ko" else sentence.en


def _zone(data: Mapping[str, Any]) -> Zone:
    """In which times are told: the one by which it was decided."""
    name = data.get("timezone")
    return Zone(name if isinstance(name, str) and is_zone(name) else "UTC", "utc")


def _moment(unix_ms: Any, zone: Zone) -> str:
    if not isinstance(unix_ms, int) or not 0 <= unix_ms <= _LAST_MS:
        return NOT_TOLD
    return f"{local_text(unix_ms, zone)} {zone.name}"


def _unix_ms(text: Any) -> int | None:
    """None: no moment in RFC 3339."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else NOT_TOLD


def _seconds(value: Any) -> str:
    """Rounded up: what is asked for at least is not less."""
    return str(math.ceil(value)) if isinstance(value, int | float) and math.isfinite(value) else NOT_TOLD


def _duration(milliseconds: Any, language: Language) -> str:
    """The two largest units: `3 h 20 min`."""
    if not isinstance(milliseconds, int) or milliseconds < 0:
        return NOT_TOLD
    left, parts = max(1, milliseconds // 1000), []
    for seconds, english, korean in _UNITS:
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number}{korean}" if language == "ko" else f"{number} {english}")
    return " ".join(parts[:2])
