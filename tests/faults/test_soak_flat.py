"""What is called flat after a soak, on made-up samples."""

from collections.abc import Callable

import pytest

from tests.faults.soak_flat import FLAT, TABLE_FLOOR, TABLES_FLAT, Sample, judge

COUNT = 60
EMPTIED, KEPT = "lifecycle.due", "lifecycle.messages_2026w01"
Series = Callable[[int], float]


def samples(
    count: int = COUNT,
    *,
    rss: Series = lambda _: 100.0,
    files: Series = lambda _: 90.0,
    megabytes: Series | None = None,
    dead: Series | None = None,
    table: str = EMPTIED,
) -> list[Sample]:
    """One every ten seconds, 25,000 messages later."""
    return [
        Sample(
            seconds=n * 10.0,
            answered=(n + 1) * 25_000,
            rss_mb={"lifecycle": rss(n)},
            descriptors={"lifecycle": int(files(n))},
            table_mb={} if megabytes is None else {table: megabytes(n)},
            dead_rows={} if dead is None else {table: int(dead(n))},
        )
        for n in range(count)
    ]


def saw_tooth(highest: float, every: int) -> Series:
    """Rises, and is vacuumed."""
    return lambda n: highest * (n % every + 1) / every


def growing(by: float) -> Series:
    return lambda n: by * (n + 1)


def test_what_does_not_move_is_flat() -> None:
    found = judge(samples(megabytes=lambda _: 300.0, dead=lambda _: 50_000))
    assert found.wrong == []
    assert found.growth == {
        "lifecycle MB": 1.0,
        "lifecycle files": 1.0,
        "lifecycle.due MB": 1.0,
        "lifecycle.due dead rows": 1.0,
    }


def test_a_table_that_grows_steadily_is_named_with_its_figures() -> None:
    assert judge(samples(megabytes=growing(3))).wrong == ["lifecycle.due: MB rose from 90 to 180"]
    assert judge(samples(dead=growing(2_000))).wrong == ["lifecycle.due: dead rows rose from 60,000 to 120,000"]


@pytest.mark.parametrize("every", [2, 5, 7, 15])
def test_a_saw_tooth_is_flat_wherever_the_quarters_cut_it(every: int) -> None:
    found = judge(samples(megabytes=saw_tooth(200, every), dead=saw_tooth(300_000, every)))
    assert found.wrong == []


def test_teeth_that_grow_are_not() -> None:
    tooth = saw_tooth(1, 5)
    found = judge(samples(dead=lambda n: tooth(n) * 100 * n * n))
    assert len(found.wrong) == 1
    assert found.growth["lifecycle.due dead rows"] > TABLES_FLAT


@pytest.mark.parametrize("unit", ["MB", "dead rows"])
def test_what_stays_below_the_floor_is_not_judged(unit: str) -> None:
    def up_to(highest: float) -> Series:
        return lambda n: highest * n / COUNT if n > COUNT / 2 else 0.0

    for share, wrong in ((0.9, 0), (1.2, 1)):
        rise = up_to(TABLE_FLOOR[unit] * share)
        given = samples(megabytes=rise) if unit == "MB" else samples(dead=rise)
        assert len(judge(given).wrong) == wrong


def test_a_table_that_is_first_seen_late_has_grown_from_nothing() -> None:
    given = samples()
    given[-3:] = samples(megabytes=lambda _: 500.0)[-3:]
    assert judge(given).wrong == ["lifecycle.due: MB rose from 0 to 500"]


def test_kept_rows_may_grow_as_the_messages_do_and_no_faster() -> None:
    assert judge(samples(megabytes=growing(10), dead=growing(10_000), table=KEPT)).wrong == []
    found = judge(samples(megabytes=lambda n: 0.5 * n * n, table=KEPT))
    assert len(found.wrong) == 1
    assert found.wrong[0].endswith("for as many messages")


def test_samples_without_tables_are_passed_over() -> None:
    """Postgres was down then, or its counts were lost with it."""
    given = samples(megabytes=lambda _: 300.0, dead=saw_tooth(300_000, 5))
    for n in range(0, COUNT, 4):
        given[n] = samples()[n]
    assert judge(given).wrong == []


@pytest.mark.parametrize("field", ["rss", "files"])
def test_a_process_that_grows_is_named(field: str) -> None:
    steady, leaking = (lambda _: 100.0), (lambda n: 100.0 + 2 * n)
    assert judge(samples(rss=steady, files=steady)).wrong == []
    found = judge(samples(rss=leaking if field == "rss" else steady, files=leaking if field == "files" else steady))
    unit = {"rss": "MB", "files": "files"}[field]
    assert [text.split(" grew")[0] for text in found.wrong] == ["lifecycle"]
    assert found.wrong[0].endswith(unit)
    assert found.growth[f"lifecycle {unit}"] > FLAT


def test_a_process_that_was_just_killed_does_not_count() -> None:
    given = samples(rss=lambda n: 5.0 if n % 10 == 0 else 100.0)
    assert judge(given).wrong == []


def test_a_small_process_may_double() -> None:
    assert judge(samples(rss=growing(1))).wrong == []


def test_few_samples_say_nothing() -> None:
    found = judge(samples(11, rss=growing(100), megabytes=growing(1_000)))
    assert (found.growth, found.wrong) == ({}, [])
