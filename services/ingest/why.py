"""The log in plain words: a sentence for each event, in English and Korean, so that a timeline answers "why".

A sentence is looked up by kind and reason, or by kind; clauses follow for what the event's data tells.
"""

from typing import Any, NamedTuple

from libs.message import FAILING
from libs.retry import TABLE, schedule_for
from libs.rpc import EventView, MessageView
from libs.stops import REASON
from libs.waits import hold_of
from services.ingest.errors import Language

PROVIDERS = {"apns": "APNs", "fcm": "FCM"}


class Sentence(NamedTuple):
    en: str
    ko: str


SENTENCES: dict[str, Sentence] = {
    "created": Sentence("Accepted", "접수되었습니다"),
    "scheduled": Sentence("Scheduled for later", "나중에 보내도록 예약되었습니다"),
    "held": Sentence("Held back ({reason})", "보류되었습니다({reason})"),
    "routed": Sentence("Handed to the {provider} sender", "{provider} 발송기로 전달되었습니다"),
    "intent": Sentence("The sender announced its call to {provider}", "발송기가 {provider} 호출을 예고했습니다"),
    "retried": Sentence("Attempt {attempt} began", "{attempt}번째 시도를 시작했습니다"),
    "sent": Sentence("{provider} accepted it", "{provider}가 수락했습니다"),
    "errored": Sentence("{provider} could not take it ({reason})", "{provider}가 처리하지 못했습니다({reason})"),
    "failed": Sentence("{provider} refused it ({reason})", "{provider}가 거부했습니다({reason})"),
    "expired": Sentence("It expired before it could be sent", "발송 전에 만료되었습니다"),
    "superseded": Sentence(
        "A later message with the same collapse key took its place",
        "같은 collapse key의 이후 메시지로 대체되었습니다",
    ),
    "bounced": Sentence("It came back ({reason})", "반송되었습니다({reason})"),
    "cancelled": Sentence("Cancelled before it was sent", "발송 전에 취소되었습니다"),
    "received": Sentence("The app reported that it arrived", "앱이 수신을 확인했습니다"),
    "converted": Sentence("The app reported that its user acted on it", "앱이 사용자 반응을 보고했습니다"),
}
"""Total over `libs.message.KINDS`."""

OURS: dict[tuple[str, str], Sentence] = {
    ("held", REASON): Sentence(
        "Held back by an emergency stop; it goes on when the stop is released",
        "긴급 중지로 보류되었으며, 중지가 해제되면 이어서 발송합니다",
    ),
    ("retried", "resend"): Sentence(
        "Sent again on request: attempt {attempt} began",
        "요청에 따라 다시 발송합니다. {attempt}번째 시도를 시작했습니다",
    ),
    ("failed", "dead_letter"): Sentence(
        "It defeated its handler repeatedly and was set aside", "처리에 반복해서 실패하여 격리되었습니다"
    ),
    ("failed", "receipt_timeout"): Sentence(
        "The app did not confirm it in time", "앱이 제때 수신을 확인하지 않았습니다"
    ),
    ("failed", "subscription_disabled"): Sentence(
        "Not sent: the subscription was disabled meanwhile (status {subscription_status})",
        "그사이 구독이 비활성화되어(상태 {subscription_status}) 보내지 않았습니다",
    ),
    ("failed", "subscription_gone"): Sentence(
        "Not sent: the subscription is gone", "구독이 삭제되어 보내지 않았습니다"
    ),
    ("failed", "content_erased"): Sentence("Not sent: its content was erased", "내용이 삭제되어 보내지 않았습니다"),
    ("failed", "ad_consent_missing"): Sentence(
        "Not sent: the recipient does not agree to advertising",
        "수신자가 광고 수신에 동의하지 않아 보내지 않았습니다",
    ),
    ("failed", "restored_unknown"): Sentence(
        "It was unfinished in the backup of {backup_at} from which the system was restored: it may have been sent "
        "since, so it is not sent again by itself",
        "시스템을 복원한 백업({backup_at}) 당시 처리 중이던 메시지입니다. 그 후 발송되었을 수 있어 "
        "자동으로 다시 보내지 않습니다",
    ),
    ("failed", "channel_unavailable"): Sentence(
        "Not sent: no sender serves this type of subscription",
        "이 구독 유형을 지원하는 발송기가 없어 보내지 않았습니다",
    ),
}
"""What no provider caused, by kind and reason."""

UNKNOWN = Sentence(
    "No answer from {provider} ({reason}), so the outcome is unknown",
    "{provider}의 응답이 없어({reason}) 결과를 알 수 없습니다",
)
"""The call ended without an answer; the message may have been delivered."""
EXHAUSTED = Sentence("No attempts are left after {reason}", "{reason} 이후 남은 시도가 없습니다")

ACTIVE = Sentence(
    "the subscription was active (status {subscription_status})",
    "구독이 활성 상태였습니다(상태 {subscription_status})",
)
AGREED = Sentence("the recipient had agreed to advertising", "수신자가 광고 수신에 동의했습니다")
DISABLED = Sentence("the subscription was set to {disable}", "구독 상태를 {disable}(으)로 변경했습니다")
KEPT = Sentence(
    "the token was registered again since, so the subscription stays",
    "토큰이 그 후 다시 등록되어 구독은 유지됩니다",
)
ATTEMPT = Sentence("attempt {tried} of {attempts} ({retry_class})", "{attempts}회 중 {tried}번째 시도({retry_class})")
ATTEMPT_UNLIMITED = Sentence("attempt {tried} ({retry_class})", "{tried}번째 시도({retry_class})")
ACTION = Sentence("{action}", "{action}")
TEMPLATED = Sentence(
    "made from version {template_version} of its template", "템플릿 버전 {template_version}(으)로 만들었습니다"
)
LOCALIZED = Sentence(
    "made from version {template_version} of its template for {template_locale}",
    "템플릿 버전 {template_version}, 언어 {template_locale}(으)로 만들었습니다",
)
RELEASED = Sentence("the emergency stop was released", "긴급 중지가 해제되었습니다")
AGAIN = Sentence("It will be tried again.", "다시 시도합니다.")
UNSAID = Sentence("no reason given", "이유 없음")

DECISIVE: dict[str, frozenset[str]] = {
    "successful": frozenset({"sent"}),
    "errored": frozenset({"errored"}),
    "failed": FAILING,
    "received": frozenset({"received"}),
    "converted": frozenset({"converted"}),
    "cancelled": frozenset({"cancelled"}),
}
"""Which events give a message its status; any other status comes from the latest event."""


def explain_event(event: EventView, message: MessageView, language: Language) -> str:
    """One sentence for one event of `message`."""
    told = _told(event, message, language)
    text = _say(_sentence(event), told, language)
    clauses = [_say(clause, told, language) for clause in _clauses(event, message)]
    return f"{text}: {'; '.join(clauses)}." if clauses else f"{text}."


def explain_message(message: MessageView, language: Language) -> str:
    """Why the message is where it is: the latest event that put it there, and whether anything follows."""
    if not message.events:
        return ""
    kinds = DECISIVE.get(message.status, frozenset())
    decisive = [event for event in message.events if event.kind in kinds] or message.events
    latest = max(decisive, key=lambda event: (event.attempt, event.occurred_at_ms))
    text = explain_event(latest, message, language)
    return text if message.next_attempt_at_ms is None else f"{text} {_say(AGAIN, {}, language)}"


def _sentence(event: EventView) -> Sentence:
    if event.kind == "errored" and event.data.get("outcome") == "unknown":
        return UNKNOWN
    if event.kind == "failed" and event.key == "exhausted":
        return EXHAUSTED
    return OURS.get((event.kind, event.reason or ""), SENTENCES.get(event.kind, Sentence(event.kind, event.kind)))


def _clauses(event: EventView, message: MessageView) -> list[Sentence]:
    """What the event's data adds to its sentence."""
    data, clauses = event.data, []
    if event.kind == "created" and "subscription_status" in data:
        clauses.append(ACTIVE)
    if event.kind == "created" and message.category == "ad" and data.get("ad_consent"):
        clauses.append(AGREED)
    if event.kind == "created" and data.get("template_version") is not None:
        clauses.append(LOCALIZED if data.get("template_locale") else TEMPLATED)
    if event.kind == "retried" and hold_of(str(data.get("waited_for", ""))) == REASON:
        clauses.append(RELEASED)
    if event.kind == "failed" and "disable" in data:
        clauses.append(DISABLED)
    if event.kind == "failed" and data.get("address") == "kept":
        clauses.append(KEPT)
    if event.kind in ("errored", "failed") and data.get("retry_class") in TABLE:
        clauses.append(ATTEMPT if _attempts(event, message) else ATTEMPT_UNLIMITED)
    if event.kind == "converted" and data.get("action"):
        clauses.append(ACTION)
    return clauses


def _attempts(event: EventView, message: MessageView) -> int | None:
    retry_class = event.data.get("retry_class")
    return schedule_for(retry_class, message.lane).attempts if retry_class in TABLE else None


def _tried(event: EventView, message: MessageView) -> int:
    """The attempt as the schedule of retries counts it: not what a stop held, nor what came before a resend."""
    earlier = (e for e in message.events if e.kind == "retried" and e.attempt <= event.attempt)
    return event.attempt - sum(int(e.data.get("uncounted", 0)) for e in earlier)


def _told(event: EventView, message: MessageView, language: Language) -> dict[str, Any]:
    """The values that sentences and clauses may name."""
    names = (
        "subscription_status",
        "retry_class",
        "action",
        "disable",
        "template_version",
        "template_locale",
        "backup_at",
    )
    return {
        **{name: event.data.get(name) for name in names},
        "reason": event.reason or _say(UNSAID, {}, language),
        "provider": PROVIDERS.get(message.channel, message.channel),
        "attempt": event.attempt,
        "tried": _tried(event, message),
        "attempts": _attempts(event, message),
    }


def _say(sentence: Sentence, told: dict[str, Any], language: Language) -> str:
    return (sentence.ko if language == "ko" else sentence.en).format_map(told)
