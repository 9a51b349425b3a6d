"""Circuit breakers: which providers an application's messages do not reach now, and why."""

from libs import rpc
from libs.api.breakers import Breaker, Breakers
from services.ingest.errors import Language
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339
from services.ingest.why_sentences import Sentence
from services.ingest.why_values import PROVIDERS

COUNTED_TO = 10_000
"""lifecycle counts no further."""
WHY: dict[str, Sentence] = {
    "credentials": Sentence(
        "{provider} does not take the application's credential ({reason}): messages wait until it is set anew",
        "{provider}에서 애플리케이션의 자격 증명을 받아들이지 않습니다({reason}). 다시 설정할 때까지 메시지가 "
        "대기합니다",
    ),
    "outage": Sentence(
        "{provider} fails to take messages ({reason}): they wait until it works again",
        "{provider}에서 메시지를 처리하지 못하고 있습니다({reason}). 복구될 때까지 메시지가 대기합니다",
    ),
    "network": Sentence(
        "{provider} cannot be reached, or does not answer ({reason}): messages wait until it does",
        "{provider}에 연결할 수 없거나 응답이 없습니다({reason}). 복구될 때까지 메시지가 대기합니다",
    ),
}
PROBING = Sentence("Single messages try now whether it works.", "현재 일부 메시지로 복구 여부를 확인하고 있습니다.")


async def list_breakers(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.ListBreakers(call.caller.application_id, count_waiting=True)
    found = await gateway.bus.call("lifecycle", "breakers", question, rpc.OpenBreakers)
    return Answer(200, Breakers([_rendered(each, call.language) for each in found.breakers]))


def _rendered(found: rpc.OpenBreaker, language: Language) -> Breaker:
    return Breaker(
        channel=found.channel,
        state="half_open" if found.half_open else "open",
        cause=found.retry_class,
        reason=found.reason,
        why=_why(found, language),
        since=rfc3339(found.opened_at_ms),
        next_probe_at=rfc3339(found.probe_at_ms),
        failures=found.failures,
        waiting=found.waiting,
        waiting_is_estimate=found.waiting >= COUNTED_TO,
    )


def _why(found: rpc.OpenBreaker, language: Language) -> str:
    told = {"provider": PROVIDERS.get(found.channel, found.channel), "reason": found.reason}
    text = f"{_in(WHY[found.retry_class], language).format_map(told)}."
    return f"{text} {_in(PROBING, language)}" if found.half_open else text


def _in(sentence: Sentence, language: Language) -> str:
    return sentence.ko if language == "ko" else sentence.en


ROUTES = (
    Route(
        method="GET",
        path="/application/breakers",
        summary="List the providers that messages wait for: after refused credentials, or while they are out",
        scopes=("read",),
        handler=list_breakers,
        answer=Breakers,
    ),
)
