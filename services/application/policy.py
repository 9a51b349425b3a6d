"""Settings that decide about sending (`libs.policy`): checked when they are set, told to the pipeline."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from libs import telemetry
from libs.api.policy import Policy as StatedPolicy
from libs.coalesce import Coalescer
from libs.errors import ResourceNotFound, ValidationFailed
from libs.localtime import is_zone
from libs.pg import Pool
from libs.policy import RECEIPT_TIMEOUT_HOURS, SAME_TIMES, Policy, is_empty
from libs.rpc import GetPolicy, PolicyFound
from services.application import queries
from services.application.checks import expect_id

UNKNOWN_ZONE = "must be the IANA name of a time zone, such as Asia/Seoul"
NO_TIME = "must be a time of day, such as 21:30"
_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_log = telemetry.logger("policy")


class Policies:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asked: Coalescer[str, PolicyFound] = Coalescer(self._find, concurrency=2)

    async def get(self, request: GetPolicy) -> PolicyFound:
        return await self._asked.submit(expect_id(request.application_id))

    async def _find(self, ids: list[str]) -> Sequence[PolicyFound | Exception]:
        async with self._pool.connection() as c:
            settings = await queries.settings_of(c, list(dict.fromkeys(ids)))
        return [
            PolicyFound(policy_of(settings[each])) if each in settings else ResourceNotFound(id=each) for each in ids
        ]


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """As they are stored: `receipt_timeout_hours: true` becomes the usual number. null, which takes a setting away, is
    never wrong. Raises `ValidationFailed`."""
    if settings.get("receipt_timeout_hours") is True:
        settings = {**settings, "receipt_timeout_hours": RECEIPT_TIMEOUT_HOURS}
    wrong = dict(_wrong(settings, StatedPolicy))
    if wrong:
        raise ValidationFailed(fields=wrong)
    return settings


def policy_of(settings: dict[str, Any]) -> Policy:
    """A setting that cannot be read, stored before it was checked, is as if it were not there: others still count."""
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        return msgspec.convert(settings, Policy)
    except msgspec.ValidationError:
        wrong = {field.split(".")[1] for field, _ in _wrong(settings, Policy)}
        _log.warning("settings_unreadable", settings=sorted(wrong))
        return msgspec.convert({name: value for name, value in settings.items() if name not in wrong}, Policy)


def _wrong(settings: dict[str, Any], kind: type[Policy]) -> Iterator[tuple[str, str]]:
    """Fields and what is wrong with each: one of each setting at least."""
    for name in Policy.__struct_fields__:
        if settings.get(name) is None:
            continue
        try:
            policy = msgspec.convert({name: settings[name]}, kind)
        except msgspec.ValidationError as error:
            yield _told(str(error))
            continue
        if policy.timezone is not None and not is_zone(policy.timezone):
            yield "settings.timezone", UNKNOWN_ZONE
        if policy.quiet_hours is not None and is_empty(policy.quiet_hours):
            yield "settings.quiet_hours.end", SAME_TIMES


def _told(refusal: str) -> tuple[str, str]:
    """The field that msgspec complains of, and the complaint."""
    found = _PATH.search(refusal)
    where, text = (found[1], refusal[: found.start()]) if found else ("", refusal)
    steps = ["settings", *re.findall(r"\w+", where)]
    for pattern, reason in ((_MISSING, "is required"), (_UNKNOWN, "is not a known field")):
        if inner := pattern.fullmatch(text):
            return ".".join([*steps, inner[1][:100]]), reason
    if steps[-1] in ("start", "end"):
        return ".".join(steps), NO_TIME
    text = text.replace("`", "").replace("Expected", "must be").replace("Invalid enum value", "does not know")
    return ".".join(steps), text[:300]
