"""gzip both ways: bounded by what a body is after it was decompressed."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from services.ingest.bodies import SMALL_BODY
from services.ingest.compression import PIECE, WORTH_IT
from services.ingest.exchange import Route
from tests.contract.rest_gateway import Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

BODY = json.dumps({"text": "안녕" * 10_000}).encode()
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


async def post(rest: Rest, raw: bytes, coding: str) -> Any:
    return await rest.post("/probes", raw=raw, headers={"Content-Encoding": coding})


@pytest.mark.parametrize("coding", CODINGS)
async def test_compressed_body_is_read(rest: Rest, coding: str) -> None:
    answer = await post(rest, CODINGS[coding](BODY), coding)
    assert (answer.status, answer.data["text"]) == (201, "안녕" * 10_000)


async def test_members_of_a_gzip_are_one_body(rest: Rest) -> None:
    raw = b"".join(gzip.compress(BODY[start : start + 7000]) for start in range(0, len(BODY), 7000))
    assert (await post(rest, raw, "gzip")).data["text"] == "안녕" * 10_000


async def test_body_that_grows_beyond_the_limit_is_too_large(rest: Rest, probe: Probe) -> None:
    bomb = gzip.compress(b" " * (200 * SMALL_BODY))
    assert len(bomb) < SMALL_BODY
    answer = await post(rest, bomb, "gzip")
    assert (answer.status, answer.code, answer.details) == (413, "payload_too_large", {"limit": SMALL_BODY})
    assert not probe.calls


async def test_body_without_end_that_comes_to_nothing_is_too_large(rest: Rest, probe: Probe) -> None:
    async def members() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield gzip.compress(b"") * (SMALL_BODY // 20)
        yield gzip.compress(b"{}")

    sent = {"X-API-Key": "client-key", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with rest.session.post("/api/v1/probes", data=members(), headers=sent) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (413, "payload_too_large")
    assert not probe.calls


@pytest.mark.parametrize("size", [SMALL_BODY, SMALL_BODY + 1, PIECE, PIECE + 1])
async def test_limit_is_exact(rest: Rest, size: int) -> None:
    raw = b'{"text": "' + b"x" * (size - 12) + b'"}'
    answer = await post(rest, gzip.compress(raw, mtime=0), "gzip")
    assert answer.status == (201 if size <= SMALL_BODY else 413)


@pytest.mark.parametrize(
    "raw",
    [
        gzip.compress(BODY, mtime=0)[:-8],
        gzip.compress(BODY, mtime=0)[:50],
        gzip.compress(BODY, mtime=0) + b"more",
        gzip.compress(BODY, mtime=0)[:100] + b"\0" * 100,
        BODY,
        zlib.compress(BODY),
        b"\x1f\x8b",
    ],
)
async def test_what_is_no_gzip_is_malformed(rest: Rest, probe: Probe, raw: bytes) -> None:
    answer = await post(rest, raw, "gzip")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert not probe.calls


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "x", "gzip, gzip", "gzip, identity", ""])
async def test_other_codings_are_refused_with_those_that_work(rest: Rest, coding: str) -> None:
    answer = await post(rest, BODY, coding)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert answer.details["accepted"] == "gzip, deflate, identity"


class TestAnswers:
    @pytest.mark.parametrize(
        ("accepted", "coding"),
        [
            ("gzip", "gzip"),
            ("br, GZIP;q=0.5", "gzip"),
            ("*", "gzip"),
            ("identity, *;q=0.1", "gzip"),
            ("gzip;q=0", None),
            ("gzip;q=0, *", None),
            ("gzip;q=x", None),
            ("deflate, br", None),
            ("identity", None),
            ("", None),
        ],
    )
    async def test_are_compressed_as_the_caller_likes(
        self, rest: Rest, probe: Probe, accepted: str, coding: str | None
    ) -> None:
        probe.text = "가" * WORTH_IT
        headers = {"Accept-Encoding": accepted}
        answers = [
            await rest.get(f"/probes/{MADE}", headers=headers),
            await rest.post("/probes", {"text": probe.text}, headers=headers),
        ]
        for answer in answers:
            assert answer.headers.get("Content-Encoding") == coding
            assert answer.data["text"] == probe.text
            assert (int(answer.headers["Content-Length"]) < WORTH_IT) == (coding is not None)

    async def test_are_not_where_it_is_not_worth_it(self, rest: Rest) -> None:
        answer = await rest.get(f"/probes/{MADE}", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers
