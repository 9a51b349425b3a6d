"""Breakers of several processes: what one finds holds for all, as lifecycle keeps it; also while it is away."""

from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from libs import errors
from libs.clock import FakeClock
from libs.rpc import OpenBreakers, ReportBreaker
from services.senders import breaker
from services.senders.contract import Postponed
from tests.unit.breaker_harness import (
    DOWN,
    REFUSED,
    SECONDS,
    TAKEN,
    A,
    Lifecycle,
    Process,
    shared,
)

pytest_plugins = ["tests.unit.breaker_fixtures"]


async def test_a_finding_is_told_once(process: Process, lifecycle: Lifecycle) -> None:
    process.fail(20)
    await process.board.round()
    await process.board.round()
    assert lifecycle.told == [ReportBreaker(A, "apns", "failed", "ServiceUnavailable", "outage", "local")]


async def test_what_others_found_holds_here_too_and_ends_when_they_say_so(
    process: Process, lifecycle: Lifecycle, clock: FakeClock
) -> None:
    lifecycle.open = [shared(clock)]
    await process.board.round()
    assert isinstance(process.begin(), Postponed)
    assert REGISTRY.get_sample_value("automata_breaker_open", {"channel": "apns"}) == 1
    lifecycle.open = []
    await process.board.round()
    assert isinstance(process.begin(), str)
    assert REGISTRY.get_sample_value("automata_breaker_open", {"channel": "apns"}) == 0


async def test_lifecycle_decides_when_to_probe(process: Process, lifecycle: Lifecycle, clock: FakeClock) -> None:
    process.fail(20)
    lifecycle.open = [shared(clock, probe_in=100)]
    await process.board.round()
    clock.advance(99)
    assert isinstance(process.begin(), Postponed)
    clock.advance(1)
    assert isinstance(process.begin(), str)


async def test_a_probes_verdict_is_told(process: Process, lifecycle: Lifecycle, clock: FakeClock) -> None:
    lifecycle.open = [shared(clock, probe_in=0)]
    await process.board.round()
    process.call(DOWN)
    await process.board.round()
    process.call(TAKEN)
    await process.board.round()
    assert [report.verdict for report in lifecycle.told] == ["failed", "healed"]


async def test_a_verdict_names_the_breaker_that_was_probed(
    process: Process, lifecycle: Lifecycle, clock: FakeClock
) -> None:
    lifecycle.open = [shared(clock, probe_in=0)]
    opened_at_ms = lifecycle.open[0].opened_at_ms
    await process.board.round()
    process.call(DOWN)
    await process.board.round()
    process.fail(1, DOWN)
    await process.board.round()
    assert [report.opened_at_ms for report in lifecycle.told] == [opened_at_ms, opened_at_ms]


async def test_an_answer_of_another_release_is_none(
    process: Process, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: Any, **__: Any) -> msgspec.Struct:
        return msgspec.json.decode(b'{"breakers": 1}', type=OpenBreakers)

    process.call(REFUSED)
    monkeypatch.setattr(lifecycle, "call", answer)
    assert not await process.board.round()
    assert process.is_open()


async def test_while_lifecycle_is_away_what_is_found_here_serves_and_is_told_later(
    process: Process, lifecycle: Lifecycle, clock: FakeClock
) -> None:
    lifecycle.is_away = True
    assert not await process.board.round()
    assert process.call(TAKEN) is None, "unknown is closed"
    process.fail(20)
    assert not await process.board.round()
    assert process.is_open()
    clock.advance(SECONDS)
    process.call(DOWN)
    lifecycle.is_away = False
    assert await process.board.round()
    assert [report.verdict for report in lifecycle.told] == ["failed"], "the newest finding alone"


async def test_what_was_known_last_serves_while_lifecycle_is_away(
    process: Process, lifecycle: Lifecycle, clock: FakeClock
) -> None:
    lifecycle.open = [shared(clock)]
    await process.board.round()
    lifecycle.is_away = True
    await process.board.round()
    assert isinstance(process.begin(), Postponed)


async def test_what_is_found_during_a_question_goes_before_its_answer(
    process: Process, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*args: Any, **_: Any) -> msgspec.Struct:
        process.fail(20)
        return OpenBreakers([])

    monkeypatch.setattr(lifecycle, "call", answer)
    await process.board.round()
    assert process.is_open()


async def test_a_report_that_is_refused_is_not_said_again(process: Process, lifecycle: Lifecycle) -> None:
    lifecycle.refuses = errors.ResourceNotFound
    process.fail(20)
    assert await process.board.round()
    lifecycle.refuses = None
    assert await process.board.round()
    assert lifecycle.told == []


async def test_findings_are_told_a_bounded_number_at_a_time_and_kept_within_bounds(
    process: Process, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_FINDINGS", 150)
    for each in range(200):
        process.call(REFUSED, f"application {each}")
    counts = []
    for _ in range(3):
        await process.board.round()
        counts.append(len(lifecycle.told))
    assert counts == [100, 150, 150]
