"""What the benchmarks make of what they measured: a run of half an hour must not end in a wrong table, or in none."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from services.cli.datadir import DataDir
from tests.bench import bars, floors_http, floors_nats, report
from tests.bench.baseline import BaselineResult
from tests.bench.batch import BatchResult
from tests.bench.critical import CriticalResult
from tests.bench.fairness import Beside, FairnessResult
from tests.bench.floor import Floor
from tests.bench.generator import Connection, prepare
from tests.bench.processes import Usage
from tests.bench.progress import Progress
from tests.bench.results import Machine, Results, Settings
from tests.bench.single import Latency, SingleResult, latency_of
from tests.bench.system import System


@pytest.fixture
async def answering() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives one answer of the list to each request, in the pieces that it is written in."""
    pieces: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", pieces


async def test_an_answer_in_pieces_is_read_whole(answering: tuple[str, list[bytes]]) -> None:
    url, pieces = answering
    pieces += [b"HTTP/1.1 503 Service Unav", b"ailable\r\nRetry-After: 2\r\nContent-Le", b"ngth: 5\r\n\r\nhe", b"llo"]
    async with await Connection.open(url) as connection:
        answer = await connection.exchange(prepare("GET", url, {}))
    assert (answer.status, answer.body, answer.retry_after) == (503, b"hello", 2.0)


async def test_an_answer_without_a_length_is_refused(answering: tuple[str, list[bytes]]) -> None:
    url, pieces = answering
    pieces += [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
    async with await Connection.open(url) as connection:
        with pytest.raises(ValueError, match="Content-Length"):
            await connection.exchange(prepare("GET", url, {}))


def test_the_moment_of_a_count_is_interpolated_between_two_looks(tmp_path: Path) -> None:
    progress = Progress(System(DataDir(tmp_path), owned=False))
    progress.times, progress.counts = [10.0, 11.0, 12.0, 13.0], [0, 100, 100, 300]
    assert progress.moment_of(50) == 10.5
    assert progress.moment_of(100) == 11.0
    assert progress.moment_of(200) == 12.5


def test_percentiles_are_of_all_requests() -> None:
    found = latency_of([number / 1000 for number in range(1, 101)])
    assert (round(found.p50), round(found.p95), round(found.p99), round(found.worst)) == (51, 96, 100, 100)


def test_bars_are_met_and_missed_by_the_figures() -> None:
    verdicts = {bar.work.strip(): bar.verdict for bar in bars.judge(_results())}
    assert verdicts == {
        "batch API, push": "met",
        "single POST, outcomes committed": "met",
        "answer p95": "missed",
        "backlog at the end": "met",
        "critical beside ≥ 500,000 bulk, p95": "met",
        "bulk beside them ÷ bulk alone": "met",
        "1,000 behind another's 1,000,000": "met",
        "p95 beside a tenant that hangs ÷ alone": "met",
        "p95 beside a tenant that is refused ÷ alone": "missed",
        "rate, last 100k ÷ first 100k of 1M": "met",
        "memory at 1M ÷ at 100k, worst service": "missed",
        "memory, worst service": "met",
    }


def test_a_bar_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {bar.verdict for bar in bars.judge(_empty())} == {"not measured"}


def test_the_report_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(_results(), report.console())
    shown = capsys.readouterr().out
    for text in ("Floors", "Written by hand", "Batch API", "Memory peak", "Single POST", "Critical", "Ratios", "Bars"):
        assert text in shown
    assert "lifecycle (restarted)" in shown
    assert "batch was not measured: it broke" in shown


def test_the_report_of_nothing_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(_empty(), report.console())
    assert "not measured" in capsys.readouterr().out


def test_the_file_holds_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    found = _results()
    found.write(path)
    assert msgspec.json.decode(path.read_bytes(), type=Results) == found


def _empty() -> Results:
    machine = Machine(2, 24.0, "Linux", "3.11", 0.1)
    return Results(datetime(2026, 11, 23, tzinfo=UTC), machine, Settings(20_000, 0.5, 4, 1))


def _results() -> Results:
    found = _empty()
    found.floors = [
        Floor(floors_nats.ENVELOPES, 90_000, 3.0, None, "178,000/s"),
        Floor(floors_http.AIOHTTP, 6_600, 20.0, 150.0),
    ]
    found.baseline = [BaselineResult(1, 1, 3000, 10.0, 300.0, 1900.0), BaselineResult(2, 4, 3000, 5.0, 600.0, 1900.0)]
    found.batch = [_run(100_000, 80.0), _run(1_000_000, 90.0)]
    found.single = SingleResult(
        64, 30.0, 90_000, 3000.0, 2900.0, 1000, 0.34, Latency(20, 51, 80, 100),
        {"201": 90_000}, {"successful": 90_000}, _usage(80), 1.0, 50.0,
    )  # fmt: skip
    latency = Latency(50, 100, 200, 300)
    found.critical = CriticalResult(1200, 1200, 60.0, 900_000, 510_000, 6600.0, 6500.0, latency, latency, latency)
    beside = [Beside("hangs", latency, latency), Beside("refused", latency, Latency(50, 130, 200, 300))]
    found.fairness = FairnessResult(1_000, 1_000_000, [0.4, 0.5, 0.6], [1.0, 1.2, 1.4], beside)
    found.problems = {"batch": "it broke"}
    return found


def _run(messages: int, peak: float) -> BatchResult:
    return BatchResult(
        messages, messages / 6000, 6000.0, 9000.0, 6000.0, 5900.0, 100_000, 0,
        {"successful": messages}, {"sent": messages}, messages, 0, _usage(peak), 2.0, 300.0,
    )  # fmt: skip


def _usage(peak: float) -> dict[str, Usage]:
    return {
        "postgres": Usage(80.0, 900.0, 20, restarted=False),
        "lifecycle": Usage(50.0, peak, 1, restarted=True),
    }
