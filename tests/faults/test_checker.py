"""The outside checker on made-up ledgers: silent about a healthy one, and it names each thing that can be wrong."""

import msgspec
import pytest

from tests.faults.checker import check, excess_calls, repeated
from tests.faults.ledger import (
    Allowance,
    Attempt,
    Call,
    Client,
    Evidence,
    Fact,
    Published,
    Rebuild,
    Request,
    Row,
)
from tests.faults.report import failure_text, report_on

MESSAGES = [f"m{n}" for n in range(6)]
NOTHING_ALLOWED = Allowance()


def fact(message_id: str, kind: str, position: int, attempt: int = 1, **fields: str) -> Fact:
    return Fact(message_id, kind, attempt, fields.pop("key", "k"), position * 1_000, 1, position, position, **fields)


def publish(each: Fact) -> Published:
    return Published(each.message_id, each.kind, each.attempt, each.key, each.epoch, each.txid, each.position)


def healthy() -> Evidence:
    """Two requests of three items, all sent; a third one was answered with an error and is not in the log."""
    requests = [
        Request("/messages/batch", f"key{n}", [f"s{n}"] * 3, attempts=[Attempt(0.0, "200")], state="answered")
        for n in range(2)
    ]
    for n, message_id in enumerate(MESSAGES):
        requests[n // 3].accepted[n % 3] = message_id
    requests.append(Request("/messages/batch", "key2", ["own"] * 3, fragile=True, state="given_up"))
    log = [fact(message_id, "created", n + 1) for n, message_id in enumerate(MESSAGES)]
    log += [fact(message_id, "sent", n + 11) for n, message_id in enumerate(MESSAGES)]
    rows = {
        message_id: Row(message_id, f"s{n // 3}", "apns", "successful", 1, sent_at_us=(n + 11) * 1_000)
        for n, message_id in enumerate(MESSAGES)
    }
    calls = [Call("apns", message_id, "token", message_id, accepted=True) for message_id in MESSAGES]
    published = [publish(each) for each in log]
    return Evidence(Client(requests), calls, log, rows, published, Rebuild(len(rows), "x", "x"))


def rules_broken(evidence: Evidence, allowance: Allowance = NOTHING_ALLOWED) -> set[str]:
    return {finding.rule for finding in check(evidence, allowance)}


def test_a_healthy_run_has_no_finding() -> None:
    assert check(healthy(), NOTHING_ALLOWED) == []


def test_a_request_without_an_answer_is_named() -> None:
    evidence = healthy()
    evidence.client.requests[0].state = "unanswered"
    assert "answered" in rules_broken(evidence)


def test_a_500_is_never_the_answer() -> None:
    evidence = healthy()
    evidence.client.requests[2].attempts.append(Attempt(0.0, "500"))
    assert rules_broken(evidence) == {"honest"}


def test_an_item_refused_without_need_is_named() -> None:
    evidence = healthy()
    evidence.client.requests[0].subscriptions.append("s0")
    evidence.client.requests[0].refused[3] = "subscription_disabled"
    assert rules_broken(evidence) == {"answered"}


def test_an_accepted_message_that_the_log_does_not_know_is_lost() -> None:
    evidence = healthy()
    evidence.client.requests[0].accepted[0] = "lost"
    found = check(evidence, NOTHING_ALLOWED)
    assert ("I1", ["lost"]) in [(finding.rule, finding.message_ids) for finding in found]


def test_two_created_events_are_one_too_many() -> None:
    evidence = healthy()
    evidence.log.append(fact("m0", "created", 30, key="other"))
    assert "I1" in rules_broken(evidence)


@pytest.mark.parametrize(("in_log", "broken"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_request_answered_with_an_error_is_whole_or_absent(in_log: int, broken: bool) -> None:
    evidence = healthy()
    for n in range(in_log):
        message_id = f"own{n}"
        evidence.log += [fact(message_id, "created", 40 + n), fact(message_id, "sent", 50 + n)]
        evidence.rows[message_id] = Row(message_id, "own", "apns", "successful", 1, sent_at_us=(50 + n) * 1_000)
        evidence.calls.append(Call("apns", message_id, "token", message_id, accepted=True))
    evidence.published = [publish(each) for each in evidence.log]
    evidence.rebuild = Rebuild(len(evidence.rows), "x", "x")
    assert rules_broken(evidence) == ({"half done"} if broken else set())


def test_a_message_told_to_nobody_is_half_done() -> None:
    evidence = healthy()
    del evidence.client.requests[0].accepted[2]
    assert "half done" in rules_broken(evidence)


def test_an_unfinished_message_is_named() -> None:
    evidence = healthy()
    evidence.log = [each for each in evidence.log if (each.message_id, each.kind) != ("m0", "sent")]
    evidence.rows["m0"] = Row("m0", "s0", "apns", "pending", 1)
    assert "I2" in rules_broken(evidence)


def test_a_failure_without_need_is_named() -> None:
    evidence = healthy()
    evidence.log = [each for each in evidence.log if (each.message_id, each.kind) != ("m0", "sent")]
    evidence.log.append(fact("m0", "failed", 30, reason="dead_letter"))
    evidence.rows["m0"] = Row("m0", "s0", "apns", "failed", 1, reason="dead_letter", failed_at_us=30_000)
    evidence.calls = [call for call in evidence.calls if call.message_id != "m0"]
    evidence.published = [publish(each) for each in evidence.log]
    assert rules_broken(evidence) == {"I2"}


def test_sent_in_the_log_but_never_at_the_sandbox_is_named() -> None:
    evidence = healthy()
    del evidence.calls[0]
    assert rules_broken(evidence) == {"sandbox"}


def test_a_delivery_that_the_log_does_not_know_is_named() -> None:
    evidence = healthy()
    evidence.calls.append(Call("apns", "stranger", "token", "stranger", accepted=True))
    assert rules_broken(evidence) == {"sandbox"}
    assert rules_broken(evidence, Allowance(foreign=frozenset({"stranger"}))) == set()


def test_repeats_are_counted_against_the_window() -> None:
    evidence = healthy()
    evidence.calls += [Call("apns", "m0", "token", "m0", accepted=True), *evidence.calls[1:2]]
    assert repeated(evidence) == {"m0": 1, "m1": 1}
    assert rules_broken(evidence, Allowance(repeats=1)) == {"I3"}
    assert rules_broken(evidence, Allowance(repeats=2)) == set()


def test_a_recorded_error_explains_one_more_call() -> None:
    evidence = healthy()
    evidence.calls.insert(0, Call("apns", "m0", "token", "m0", accepted=True))
    evidence.log.append(fact("m0", "errored", 9, outcome="unknown"))
    evidence.published = [publish(each) for each in sorted(evidence.log, key=lambda each: each.place)]
    assert excess_calls(evidence) == {}
    assert rules_broken(evidence) == set()


@pytest.mark.parametrize("collapse", ["other", None])
def test_a_repeat_that_would_show_twice_is_named(collapse: str | None) -> None:
    evidence = healthy()
    evidence.calls.append(Call("apns", "m0", "token", collapse, accepted=True))
    assert rules_broken(evidence, Allowance(repeats=1)) == {"R7"}


def test_a_projection_that_is_not_the_fold_is_named() -> None:
    evidence = healthy()
    evidence.rows["m0"] = msgspec.structs.replace(evidence.rows["m0"], attempt=2)
    assert rules_broken(evidence) == {"I4"}


@pytest.mark.parametrize("rebuilt", [Rebuild(6, "x", "y"), Rebuild(5, "x", "x")])
def test_a_rebuild_that_differs_is_named(rebuilt: Rebuild) -> None:
    evidence = healthy()
    evidence.rebuild = rebuilt
    assert rules_broken(evidence) == {"I4"}


def test_a_fact_missing_on_events_is_named_unless_the_stream_was_deleted() -> None:
    evidence = healthy()
    del evidence.published[:6]
    assert rules_broken(evidence) == {"R13"}
    assert rules_broken(evidence, Allowance(published_after=(1, 6, 6))) == set()
    assert rules_broken(evidence, Allowance(published_after=(1, 5, 5))) == {"R13"}


def test_a_stretch_published_again_is_in_order_but_a_late_fact_is_not() -> None:
    again = healthy()
    again.published += again.published[3:]
    assert rules_broken(again) == set()

    late = healthy()
    late.published = late.published[6:] + late.published[:6]
    assert rules_broken(late) == {"R13"}


def test_a_failure_prints_what_each_ledger_knows_of_the_ids() -> None:
    evidence = healthy()
    evidence.client.requests[0].accepted[0] = "lost"
    findings = check(evidence, NOTHING_ALLOWED)
    report = report_on("made-up", evidence, NOTHING_ALLOWED, findings, (0.0, 0.0), {})
    text = failure_text(report, evidence)
    assert "message lost" in text
    assert "log         nothing" in text
    assert "sandbox     nothing" in text
    assert "request 0: ['200']" in text
