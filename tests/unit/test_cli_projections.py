"""`automata projections rebuild`: what it prints, and how it ends."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from libs.clock import FakeClock
from libs.errors import ServiceUnavailable
from services.cli.main import main
from services.cli.projections import now_and_then
from services.lifecycle import rebuild
from services.lifecycle.rebuild import Rebuilt

MOMENT = 1_767_225_600.0
SAME = Rebuilt(messages=1_234_567, reached=MOMENT, found=2**64 + 171, told=171)


def run(monkeypatch: pytest.MonkeyPatch, found: Rebuilt | Exception) -> Result:
    async def made_up(dsn: str, progress: Callable[[Rebuilt], None]) -> Rebuilt:
        assert dsn == "postgresql://of-this-test"
        if isinstance(found, Exception):
            raise found
        progress(found)
        return found

    monkeypatch.setenv("DATABASE_URL", "postgresql://of-this-test")
    monkeypatch.setattr(rebuild, "rebuild", made_up)
    return CliRunner().invoke(main, ["projections", "rebuild"])


def test_it_prints_counts_and_checksums_one_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, SAME)
    checksum = "00000000000000ab"
    assert result.exit_code == 0
    assert dict(line.rsplit(maxsplit=1) for line in result.stdout.splitlines()) == {
        "messages": "1234567",
        "changed": "0",
        "strangers": "0",
        "checksum before": checksum,
        "checksum after": checksum,
    }


def test_another_checksum_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Rebuilt(messages=2, changed=1, found=1, told=2))
    assert result.exit_code == 1
    assert "checksum after" in result.stdout
    assert "right now" in result.stderr


def test_a_database_that_went_away_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, ServiceUnavailable(service="postgres", retry_after=1))
    assert result.exit_code == 1
    assert "run it again" in result.stderr


def test_progress_is_told_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    say = now_and_then(clock.monotonic)
    told = []
    for _ in range(7):
        clock.advance(1)
        say(SAME)
        captured = capsys.readouterr()
        assert captured.out == "", "standard output is for the result"
        told.append(captured.err)
    assert [bool(text) for text in told] == [False, False, True, False, False, True, False]
    assert told[2] == "1,234,567 messages, up to 2026-01-01 00:00:00 UTC, 411,522/s; 0 changed\n"
