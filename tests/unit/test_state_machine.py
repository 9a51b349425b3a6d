"""The table, its drawing and Postgres' CHECKs say the same of a message's life."""

import re
from pathlib import Path

import libs.message
from libs.message import FAILING, KINDS, STATUSES, Event, fold

SCHEMA = Path(__file__).resolve().parent.parent.parent / "deploy" / "sql" / "schema.sql"
ARROW = re.compile(r"─+\s*([a-z]+(?: \| [a-z]+)*)\s*─+>\s*([a-z]+)")
INITIAL = "pending"
Edge = tuple[str, str, str]


def drawn() -> list[Edge]:
    """(from, kind, to) of every arrow of the docstring; a line that begins with a branch leaves `pending`."""
    found: list[Edge] = []
    for line in (libs.message.__doc__ or "").splitlines():
        first = re.match(r"\s*([a-z]+) ─", line)
        state = first[1] if first else INITIAL
        for kinds, target in ARROW.findall(line):
            found += [(state, kind, target) for kind in kinds.split(" | ")]
            state = target
    return found


def path_to(status: str) -> list[str]:
    """Kinds that lead from the beginning to `status`."""
    paths: dict[str, list[str]] = {INITIAL: []}
    for _ in STATUSES:
        for source, kind, target in drawn():
            if source in paths:
                paths.setdefault(target, [*paths[source], kind])
    return paths[status]


def status_after(kinds: list[str]) -> str:
    attempt, events = 1, [Event("m", "created", 1, "", 0)]
    for number, kind in enumerate(kinds, start=1):
        attempt += kind == "retried"
        (checked,) = [known for known in KINDS if known == kind]
        events.append(Event("m", checked, 0 if kind in ("received", "converted") else attempt, "", number))
    return fold(events).status


def test_every_arrow_that_is_drawn_is_what_the_fold_does() -> None:
    assert len(drawn()) >= len(STATUSES)
    for source, kind, target in drawn():
        assert status_after([*path_to(source), kind]) == target, f"{source} --{kind}--> {target}"


def test_every_status_and_every_failing_kind_is_drawn() -> None:
    assert {INITIAL, *(target for _, _, target in drawn())} == set(STATUSES)
    assert set(FAILING) <= {kind for _, kind, _ in drawn()}


def check(constraint: str) -> tuple[str, ...]:
    """The words that a CHECK of the schema allows."""
    (found,) = set(re.findall(rf"CONSTRAINT {constraint} CHECK (.+?),?\n", SCHEMA.read_text()))
    return tuple(re.findall(r"'([a-z_]+)'", found))


def test_the_checks_of_postgres_repeat_the_table() -> None:
    assert check("messages_status_check") == STATUSES
    assert sorted(check("message_events_kind_check")) == sorted(KINDS)
