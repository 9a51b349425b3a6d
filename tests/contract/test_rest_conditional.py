"""Reads are conditional: ETag, If-None-Match, If-Modified-Since; HEAD (RFC 9110 §9.3.2, §13)."""

from collections.abc import Sequence
from email.utils import formatdate

import pytest

from services.ingest.conditional import CACHE_CONTROL
from services.ingest.exchange import Route
from tests.contract.rest_gateway import Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

PATH = f"/probes/{MADE}"
GZIP = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


async def test_what_is_known_is_not_sent_again(rest: Rest) -> None:
    first = await rest.get(PATH)
    assert first.headers["Cache-Control"] == CACHE_CONTROL
    assert {"Accept-Encoding", "Accept-Language", "X-API-Key"} <= set(first.headers["Vary"].split(", "))
    again = await rest.get(PATH, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.content) == (304, b"")
    assert "Content-Type" not in again.headers
    for name in ("ETag", "Cache-Control", "Vary", "X-RateLimit-Limit"):
        assert again.headers[name] == first.headers[name]


async def test_what_changed_is_sent(rest: Rest, probe: Probe) -> None:
    known = (await rest.get(PATH)).headers["ETag"]
    probe.text = "something else"
    answer = await rest.get(PATH, headers={"If-None-Match": known})
    assert (answer.status, answer.data["text"]) == (200, "something else")
    assert answer.headers["ETag"] != known


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("*", 304),
        ('"other", {tag}', 304),
        ("W/{tag}", 304),
        ('"other"', 200),
        ("{bare}", 200),
        ('"', 200),
        ('W/"', 200),
        ("", 200),
        ("," * 4000, 200),
    ],
)
async def test_conditions_of_all_kinds(rest: Rest, condition: str, status: int) -> None:
    tag = (await rest.get(PATH)).headers["ETag"]
    given = condition.format(tag=tag, bare=tag.strip('"'))
    assert (await rest.get(PATH, headers={"If-None-Match": given})).status == status


async def test_each_representation_has_its_own_strong_tag_and_either_is_known(rest: Rest, probe: Probe) -> None:
    probe.text = "x" * 5000
    plain, zipped = await rest.get(PATH, headers=PLAIN), await rest.get(PATH, headers=GZIP)
    tags = [plain.headers["ETag"], zipped.headers["ETag"]]
    assert tags[0] != tags[1]
    assert not any(tag.startswith("W/") for tag in tags)
    for tag in tags:
        for encoding, own in ((PLAIN, tags[0]), (GZIP, tags[1])):
            answer = await rest.get(PATH, headers={**encoding, "If-None-Match": tag})
            assert (answer.status, answer.headers["ETag"], answer.content) == (304, own, b"")
            assert "Content-Encoding" not in answer.headers


class TestDates:
    async def test_is_the_change_in_whole_seconds(self, rest: Rest, probe: Probe) -> None:
        modified = int(rest.clock.time()) - 100
        probe.modified_ms = modified * 1000 + 999
        answer = await rest.get(PATH)
        assert answer.headers["Last-Modified"] == formatdate(modified, usegmt=True)
        for since, status in ((modified, 304), (modified + 1, 304), (modified - 1, 200)):
            headers = {"If-Modified-Since": formatdate(since, usegmt=True)}
            assert (await rest.get(PATH, headers=headers)).status == status

    async def test_tag_goes_before_the_date(self, rest: Rest, probe: Probe) -> None:
        probe.modified_ms = int(rest.clock.time() - 100) * 1000
        for tag in ('"other"', "nonsense"):
            headers = {"If-None-Match": tag, "If-Modified-Since": formatdate(rest.clock.time(), usegmt=True)}
            assert (await rest.get(PATH, headers=headers)).status == 200

    async def test_change_of_this_very_second_has_none_yet(self, rest: Rest, probe: Probe) -> None:
        probe.modified_ms = int(rest.clock.time() * 1000) - 500
        answer = await rest.get(PATH, headers={"If-Modified-Since": formatdate(rest.clock.time(), usegmt=True)})
        assert answer.status == 200
        assert "Last-Modified" not in answer.headers

    @pytest.mark.parametrize("nonsense", ["yesterday", "0", "Thu, 01 Jan 99999 00:00:00 GMT", "x" * 4000, "\xff"])
    async def test_nonsense_is_no_condition(self, rest: Rest, probe: Probe, nonsense: str) -> None:
        probe.modified_ms = int(rest.clock.time() - 100) * 1000
        assert (await rest.get(PATH, headers={"If-Modified-Since": nonsense})).status == 200

    async def test_without_a_known_change_there_is_none(self, rest: Rest) -> None:
        answer = await rest.get(PATH, headers={"If-Modified-Since": formatdate(rest.clock.time(), usegmt=True)})
        assert (answer.status, answer.headers.get("Last-Modified")) == (200, None)


async def test_head_is_the_answer_without_its_body(rest: Rest, probe: Probe) -> None:
    probe.text = "x" * 5000
    full = await rest.get(PATH, headers=PLAIN)
    head = await rest.call("HEAD", f"/api/v1{PATH}", headers=PLAIN)
    assert (head.status, head.content) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Cache-Control", "Vary"):
        assert head.headers[name] == full.headers[name]
    known = {"If-None-Match": full.headers["ETag"]}
    assert (await rest.call("HEAD", f"/api/v1{PATH}", headers=known)).status == 304
    assert (await rest.call("HEAD", f"/api/v1{PATH}", key=None)).status == 401


async def test_changes_and_errors_are_not_to_be_kept(rest: Rest) -> None:
    made = await rest.post("/probes", {})
    lost = await rest.get("/probes/nothing", key=None)
    for answer in (made, lost):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
    answer = await rest.post("/probes", {}, headers={"If-None-Match": "*"})
    assert answer.status == 201
