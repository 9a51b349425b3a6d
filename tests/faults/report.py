"""What a run came to: a summary for people, the same as JSON, and the timelines of what went wrong."""

import os
from collections import Counter
from pathlib import Path

import msgspec

from tests.faults.checker import Finding, excess_calls, repeated
from tests.faults.ledger import Allowance, Evidence, Fact

RESULTS = Path(__file__).parents[2] / "build/faults"
TIMELINES = 4
"""At most this many timelines are printed for a finding."""


class Report(msgspec.Struct, frozen=True):
    fault: str
    accepted: int
    refused: int
    requests: int
    tries: int
    answers: dict[str, int]
    """To tries: status code or name of the error, and how often."""
    given_up: int
    given_up_but_accepted: int
    replayed: int
    statuses: dict[str, int]
    calls: int
    repeats: int
    excess: int
    allowed: int
    unknown_outcomes: int
    events: int
    published: int
    seconds_to_settle: float
    seconds_in_all: float
    findings: list[Finding]
    notes: dict[str, float] = {}


def report_on(
    fault: str,
    evidence: Evidence,
    allowance: Allowance,
    findings: list[Finding],
    seconds: tuple[float, float],
    notes: dict[str, float],
) -> Report:
    """`seconds`: from the end of the load until all was settled, and of the whole run."""
    requests = evidence.client.requests
    told = evidence.client.told()
    return Report(
        fault=fault,
        accepted=len(told),
        refused=sum(len(request.refused) for request in requests),
        requests=len(requests),
        tries=sum(len(request.attempts) for request in requests),
        answers=dict(Counter(attempt.answer for request in requests for attempt in request.attempts)),
        given_up=len(evidence.client.given_up()),
        given_up_but_accepted=len(set(evidence.rows) - set(told)),
        replayed=sum(request.replayed for request in requests),
        statuses=dict(Counter(row.status for row in evidence.rows.values())),
        calls=len(evidence.calls),
        repeats=sum(repeated(evidence).values()),
        excess=sum(excess_calls(evidence).values()),
        allowed=allowance.repeats,
        unknown_outcomes=sum(fact.outcome == "unknown" for fact in evidence.log),
        events=len(evidence.log),
        published=len(evidence.published),
        seconds_to_settle=round(seconds[0], 2),
        seconds_in_all=round(seconds[1], 2),
        findings=findings,
        notes={name: round(value, 3) for name, value in notes.items()},
    )


def summary(report: Report) -> str:
    verdict = "holds" if not report.findings else "BROKEN"
    lines = [
        f"{report.fault}: {verdict}",
        f"  client   {report.requests} requests in {report.tries} tries: {report.answers}, {report.replayed} replayed",
        f"           {report.accepted} accepted, {report.refused} refused",
        f"           {report.given_up} given up at an error, {report.given_up_but_accepted} of their items in the log",
        f"  log      {report.events} events, {report.statuses}, {report.unknown_outcomes} unknown outcomes",
        f"  sandbox  {report.calls} calls, {report.repeats} after the accepted one",
        f"           {report.excess} beyond what the log explains, {report.allowed} allowed",
        f"  EVENTS   {report.published} published",
        f"  settled  {report.seconds_to_settle} s after the load; {report.seconds_in_all} s in all",
        *(f"  note     {name}: {value}" for name, value in report.notes.items()),
        *(f"  WRONG    {finding.rule}: {finding.text}" for finding in report.findings),
    ]
    return "\n".join(lines)


def write(report: Report) -> Path:
    """`build/faults/<fault>.json`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{report.fault}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + os.linesep.encode())
    return path


def failure_text(report: Report, evidence: Evidence) -> str:
    """The summary, and under each finding what every ledger knows of the first ids."""
    parts = [summary(report)]
    for finding in report.findings:
        parts.append(f"\n{finding.rule}: {finding.text}")
        parts.extend(timeline(evidence, message_id) for message_id in finding.message_ids[:TIMELINES])
    return "\n".join(parts)


def timeline(evidence: Evidence, message_id: str) -> str:
    """One message in all ledgers, with what is missing said aloud."""
    request = evidence.client.told().get(message_id)
    row = evidence.rows.get(message_id)
    facts = [fact for fact in evidence.log if fact.message_id == message_id]
    seen = [call for call in evidence.calls if call.message_id == message_id]
    told = "nothing" if request is None else f"request {request.number}: {[a.answer for a in request.attempts]}"
    lines = [f"  message {message_id}", f"    client      {told}"]
    lines.append(f"    projection  {row if row is not None else 'nothing'}")
    lines += [f"    log         {_fact(fact)}" for fact in facts] or ["    log         nothing"]
    lines += [
        f"    sandbox     {call.provider} accepted={call.accepted} collapse={call.collapse} at={call.at}"
        for call in seen
    ] or ["    sandbox     nothing"]
    published = [f"{p.kind}/{p.attempt}@{p.place}" for p in evidence.published if p.message_id == message_id]
    lines.append(f"    EVENTS      {', '.join(published) or 'nothing'}")
    return "\n".join(lines)


def _fact(fact: Fact) -> str:
    fields = {name: value for name, value in msgspec.structs.asdict(fact).items() if value is not None}
    fields.pop("message_id")
    return " ".join(f"{name}={value}" for name, value in fields.items())
