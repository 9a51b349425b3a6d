"""What a timeline can say, in English and Korean: sentences by kind and reason, and the clauses that follow them.

Names in braces are values that `services.ingest.why_values` finds in an event.
"""

from typing import NamedTuple

from libs.stops import REASON as STOPPED
from libs.waits import Hold


class Sentence(NamedTuple):
    en: str
    ko: str


SENTENCES: dict[str, Sentence] = {
    "created": Sentence("Accepted", "접수되었습니다"),
    "scheduled": Sentence("Scheduled: it is to be sent at {until}", "{until}에 보내도록 예약되었습니다"),
    "held": Sentence("Held back ({reason})", "보류되었습니다({reason})"),
    "routed": Sentence("Handed to the {provider} sender", "{provider} 발송기로 전달되었습니다"),
    "intent": Sentence("The sender announced its call to {provider}", "발송기가 {provider} 호출을 예고했습니다"),
    "retried": Sentence("Attempt {attempt} began", "{attempt}번째 시도를 시작했습니다"),
    "sent": Sentence("{provider} accepted it", "{provider}에서 수락했습니다"),
    "errored": Sentence("{provider} could not take it ({reason})", "{provider}에서 처리하지 못했습니다({reason})"),
    "failed": Sentence("{provider} refused it ({reason})", "{provider}에서 거부했습니다({reason})"),
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

_CAPPED = Sentence(
    "{count} went to this person within the last {per}, and the limit is {limit}",
    "최근 {per} 동안 이 사람에게 {count}건을 보냈으며 한도는 {limit}건입니다",
)
OURS: dict[tuple[str, str], Sentence] = {
    ("routed", "scheduled"): Sentence(
        "Its time had come, and it was handed on", "예약한 시각이 되어 다음 단계로 전달되었습니다"
    ),
    ("routed", "handed_off_again"): Sentence(
        "It was lost on its way to the sender, and was handed on again",
        "발송기로 가는 도중 유실되어 다시 전달되었습니다",
    ),
    ("held", STOPPED): Sentence(
        "Held back by an emergency stop; it goes on when the stop is released",
        "긴급 중지로 보류되었으며, 중지가 해제되면 이어서 발송합니다",
    ),
    ("held", "quiet_hours"): Sentence(
        "Held back in quiet hours ({start} to {end}); it goes on at {until}",
        "방해 금지 시간({start}~{end})이어서 보류되었으며, {until}에 이어서 발송합니다",
    ),
    ("held", "ad_night"): Sentence(
        "Held back: from {start} to {end} advertising needs a consent of its own, which the recipient did not give; "
        "it goes on at {until}",
        "{start}~{end}에는 별도의 야간 광고 수신 동의가 필요하지만 수신자가 동의하지 않아 보류되었으며, "
        "{until}에 이어서 발송합니다",
    ),
    ("held", "frequency_cap"): Sentence(
        f"Held back: {_CAPPED.en}; it goes on at {{until}}",
        f"{_CAPPED.ko}. 보류되었으며, {{until}}에 이어서 발송합니다",
    ),
    ("held", "breaker"): Sentence(
        "Held back: calls to {provider} failed repeatedly ({breaker_reason}), so that none are made; it goes on when "
        "{provider} works again",
        "{provider} 호출이 반복해서 실패하여({breaker_reason}) 호출을 멈추고 보류했으며, {provider} 연결이 복구되면 "
        "이어서 발송합니다",
    ),
    ("held", "rate_limit"): Sentence(
        "Held back by the limit on messages a second to {provider}; it goes on at {until}",
        "{provider}의 초당 발송 한도로 보류되었으며, {until}에 이어서 발송합니다",
    ),
    ("held", "provider_slow"): Sentence(
        "Held back: {provider} is slow, {outstanding} calls wait for its answer and {limit} are the limit; it goes on "
        "at {until}",
        "{provider}의 응답이 느려 {outstanding}건의 호출이 응답을 기다리고 있고 한도는 {limit}건이어서 보류되었으며, "
        "{until}에 이어서 발송합니다",
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
    ("failed", "quiet_hours"): Sentence(
        "Not sent: it came in quiet hours ({start} to {end}), in which messages are dropped",
        "방해 금지 시간({start}~{end})에는 메시지를 보내지 않고 버리도록 설정되어 있어 보내지 않았습니다",
    ),
    ("failed", "frequency_cap"): Sentence(f"Not sent: {_CAPPED.en}", f"{_CAPPED.ko}. 그래서 보내지 않았습니다"),
    ("failed", "no_open_hours"): Sentence(
        "Not sent: it is advertising, for which quiet hours ({start} to {end}) and the night leave no time of day",
        "방해 금지 시간({start}~{end})과 야간 시간을 제외하면 광고를 보낼 수 있는 시간이 없어 보내지 않았습니다",
    ),
    ("failed", "too_many_attempts"): Sentence(
        "Given up after {count} attempts, most of which were held back",
        "시도 {count}회가 대부분 보류되어 더 이상 시도하지 않습니다",
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

NO_CREDENTIAL = Sentence(
    "Held back: {provider} cannot be called with the application's credential ({breaker_reason}); it goes on when one "
    "that works is set",
    "애플리케이션의 자격 증명으로 {provider}를 호출할 수 없어({breaker_reason}) 보류되었으며, 유효한 자격 증명이 "
    "설정되면 이어서 발송합니다",
)
"""Of a breaker that no outage opened."""
RESCHEDULED = Sentence("Given another time: it is to be sent at {until}", "발송 시각이 {until}(으)로 변경되었습니다")
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
ASKED = Sentence(
    "{provider} asked to wait for at least {retry_after} s",
    "{provider}에서 최소 {retry_after}초 후에 다시 시도하도록 요청했습니다",
)
"""The provider's Retry-After: a floor."""
ASKED_BY_RULE = Sentence(
    "{provider} named no time, and its rule is to wait for at least {retry_after} s",
    "{provider}에서 시간을 지정하지 않아 규정에 따라 최소 {retry_after}초를 기다립니다",
)
NEXT_TRY = Sentence("the next is due at {retry_at}", "다음 시도 예정 시각은 {retry_at}입니다")
ACTION = Sentence("{action}", "{action}")
TEMPLATED = Sentence(
    "made from version {template_version} of its template", "템플릿 버전 {template_version}(으)로 만들었습니다"
)
LOCALIZED = Sentence(
    "made from version {template_version} of its template for {template_locale}",
    "템플릿 버전 {template_version}, 언어 {template_locale}(으)로 만들었습니다",
)
REVISION = Sentence("its time was set {revision} times", "발송 시각을 {revision}번 정했습니다")
SENT_FROM = Sentence(
    "sent from region {sent_from}, because no sender of {region} was heard",
    "{region} 리전 발송기의 신호가 없어 {sent_from} 리전에서 발송했습니다",
)
HANDLED_FROM = Sentence(
    "handled from region {sent_from}, because no sender of {region} was heard",
    "{region} 리전 발송기의 신호가 없어 {sent_from} 리전에서 처리했습니다",
)
AT_LOCAL = Sentence(
    "asked for at {send_at_local} of the recipient's time", "수신자 현지 시각 {send_at_local} 발송 요청입니다"
)
NOT_BEFORE = Sentence("not before {scheduled_at}", "{scheduled_at} 이후 발송 요청입니다")
PROBED = Sentence(
    "from {probe_at} on single messages try whether it does", "{probe_at}부터 메시지 일부로 복구 여부를 확인합니다"
)
RATE = Sentence("{rate} a second are allowed", "초당 {rate}건까지 보낼 수 있습니다")
SLOWED = Sentence("{provider} asked to go slower", "{provider}에서 속도를 줄이도록 요청했습니다")
SLOWED_FROM = Sentence(
    "{provider} asked to go slower than the {knob} that the application set",
    "애플리케이션이 정한 한도는 {knob}건이지만 {provider}에서 속도를 줄이도록 요청했습니다",
)
OLDEST = Sentence("the oldest waits for {oldest}", "가장 오래된 호출은 {oldest}째 기다리고 있습니다")
COUNTED = Sentence("only those of category {category} count", "{category} 메시지만 셉니다")
WAITED = Sentence("it had waited for {waited}", "{waited} 동안 기다렸습니다")
BEYOND = Sentence(
    "another attempt would have come after the end of its time to live at {deadline}",
    "다음 시도가 유효 기간이 끝나는 {deadline}보다 늦습니다",
)
DEADLINE = Sentence("its time to live ended at {deadline}", "유효 기간이 {deadline}에 끝났습니다")
LAST = Sentence("the last attempt ended with {last_reason}", "마지막 시도의 결과는 {last_reason}입니다")
SWEPT = Sentence("it was still {last_status} then", "그때까지 상태가 {last_status}였습니다")
IN_HOURS = Sentence(
    "it was sent at {sent_at} and had {hours} hours", "{sent_at}에 발송되었고 확인 기한은 {hours}시간이었습니다"
)
AGAIN = Sentence("It will be tried again.", "다시 시도합니다.")
IN_TURN = Sentence(
    "It waits for its turn: so many messages of the application are on their way in this lane that others go first.",
    "차례를 기다리고 있습니다. 이 레인에서 처리 중인 애플리케이션의 메시지가 많아 앞선 메시지부터 발송합니다.",
)
UNSAID = Sentence("no reason given", "이유 없음")

RULES: dict[str, Sentence] = {
    "subscription": Sentence("the recipient's own quiet hours", "수신자가 직접 정한 시간입니다"),
    "application": Sentence("the application's quiet hours", "애플리케이션이 정한 시간입니다"),
    "law": Sentence("the law on advertising at night", "야간 광고에 관한 법률에 따른 시간입니다"),
}
"""Whose window it was."""
ZONES: dict[str, Sentence] = {
    "subscription": Sentence("the time zone is the subscription's own", "시간대는 구독에 등록된 값입니다"),
    "country": Sentence("the time zone is that of the subscription's country", "시간대는 구독 국가의 시간대입니다"),
    "application": Sentence("the time zone is the application's", "시간대는 애플리케이션의 시간대입니다"),
    "utc": Sentence("nothing tells the recipient's time zone: UTC", "수신자의 시간대를 알 수 없어 UTC를 사용했습니다"),
}
"""Where it came from."""
ENDED: dict[Hold, Sentence] = {
    "scheduled": Sentence("its time had come", "예약한 시각이 되었습니다"),
    "quiet_hours": Sentence("the quiet hours were over", "방해 금지 시간이 끝났습니다"),
    "ad_night": Sentence("the night was over", "야간 시간이 끝났습니다"),
    "frequency_cap": Sentence("the frequency cap was to have room again", "빈도 한도에 여유가 생길 시각이 되었습니다"),
    "emergency_stop": Sentence("the emergency stop was released", "긴급 중지가 해제되었습니다"),
    "breaker": Sentence(
        "{provider} works again, or this message tries whether it does",
        "{provider} 연결이 복구되었거나, 이 메시지로 복구 여부를 확인합니다",
    ),
    "rate_limit": Sentence("the rate allowed it", "발송 속도에 여유가 생겼습니다"),
    "provider_slow": Sentence(
        "it was the turn of what {provider} kept waiting", "느린 {provider} 응답을 기다리던 차례가 되었습니다"
    ),
}
"""Why a wait was over."""
TRIED_AGAIN = Sentence(
    "the wait after the failure before it was over ({failure})", "앞선 실패 후의 대기 시간이 끝났습니다({failure})"
)
STILL: dict[Hold, Sentence] = {
    "scheduled": Sentence("it waited for its time", "예약한 시각을 기다리고 있었습니다"),
    "quiet_hours": Sentence("it waited for the quiet hours to end", "방해 금지 시간이 끝나기를 기다리고 있었습니다"),
    "ad_night": Sentence("it waited for the night to end", "야간 시간이 끝나기를 기다리고 있었습니다"),
    "frequency_cap": Sentence("it waited for the frequency cap", "빈도 한도를 기다리고 있었습니다"),
    "emergency_stop": Sentence("it waited for an emergency stop to end", "긴급 중지 해제를 기다리고 있었습니다"),
    "breaker": Sentence("it waited for {provider} to work again", "{provider} 복구를 기다리고 있었습니다"),
    "rate_limit": Sentence("it waited for its turn at the allowed rate", "발송 속도 한도를 기다리고 있었습니다"),
    "provider_slow": Sentence("it waited for {provider}, which was slow", "느린 {provider} 응답을 기다리고 있었습니다"),
}
"""What it waited for when it expired."""
PERIODS: dict[str, Sentence] = {
    "hour": Sentence("hour", "1시간"),
    "day": Sentence("day", "하루"),
    "week": Sentence("week", "일주일"),
}
