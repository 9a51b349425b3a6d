"""Bodies and answers without a known end: piece by piece, held up by whoever is slower, no failure a good end."""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest

from libs import errors
from services.ingest.exchange import Route
from services.ingest.settings import GatewayHttp
from tests.contract.rest_gateway import Rest
from tests.contract.rest_probe import Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

URL = "/api/v1/probes/file"
SENT = {"X-API-Key": "owner-key", "Content-Type": "text/csv"}
EXPORT = "/api/v1/probes-file"


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


@pytest.fixture
def http_settings() -> GatewayHttp:
    return GatewayHttp(max_streams=1, body_timeout=0.3)


class TestBody:
    @pytest.mark.parametrize("compressed", [False, True])
    async def test_may_be_larger_than_any_other(self, rest: Rest, probe: Probe, compressed: bool) -> None:
        rows = b"a,b,c\n" * 2_000_000
        raw = gzip.compress(rows, 1) if compressed else rows
        headers = {**SENT, **({"Content-Encoding": "gzip"} if compressed else {})}
        async with rest.session.put(URL, data=io.BytesIO(raw), headers=headers) as response:
            assert response.status == 200, await response.text()
        assert probe.received == rows

    async def test_query_is_its_input(self, rest: Rest, probe: Probe) -> None:
        async with rest.session.put(f"{URL}?format=ndjson", data=b"x", headers=SENT) as response:
            assert response.status == 200
        assert probe.calls[0].input.format == "ndjson"

    async def test_waits_while_nobody_takes_it(self, rest: Rest, probe: Probe) -> None:
        sent = 0

        async def rows() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(1000):
                sent += 1
                yield b"x" * 65_536

        probe.go.clear()
        request = asyncio.create_task(_put(rest, rows()))
        await probe.running.acquire()
        last = -1
        while sent != last:  # until the sockets are full
            last = sent
            await asyncio.sleep(0.05)
        assert sent < 500
        probe.go.set()
        assert await request == 200
        assert len(probe.received) == 1000 * 65_536

    @pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "text/csv2"])
    async def test_is_of_a_type_that_the_route_names(self, rest: Rest, kind: str) -> None:
        async with rest.session.put(
            URL, data=b"x", headers={**SENT, "Content-Type": kind}, skip_auto_headers=["Content-Type"]
        ) as response:
            body = await response.json()
            assert (response.status, body["error"]["code"]) == (415, "unsupported_media_type")
            assert body["error"]["details"]["accepted"] == "text/csv, application/x-ndjson"

    @pytest.mark.parametrize("kind", ["text/csv; charset=utf-8", "TEXT/CSV", "application/x-ndjson"])
    async def test_parameters_of_the_type_do_not_matter(self, rest: Rest, kind: str) -> None:
        async with rest.session.put(URL, data=b"x", headers={**SENT, "Content-Type": kind}) as response:
            assert response.status == 200

    async def test_missing_one_is_malformed(self, rest: Rest) -> None:
        async with rest.session.put(URL, headers=SENT) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")

    async def test_that_stops_coming_is_given_up(self, rest: Rest, probe: Probe) -> None:
        never = asyncio.Event()

        async def rows() -> AsyncIterator[bytes]:
            yield b"a"
            await never.wait()

        request = asyncio.create_task(_put(rest, rows()))
        assert await request == 400
        assert probe.received == b"a"
        assert not rest.platform.audited

    async def test_that_comes_slowly_is_read_on(self, rest: Rest, probe: Probe) -> None:
        async def rows() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"a"
                await asyncio.sleep(0.1)  # five pauses together are longer than one may be

        assert await _put(rest, rows()) == 200
        assert probe.received == b"aaaaa"

    async def test_gzip_that_was_cut_off_is_no_end(self, rest: Rest, probe: Probe) -> None:
        raw = gzip.compress(b"a,b\n" * 100_000)
        headers = {**SENT, "Content-Encoding": "gzip"}
        async with rest.session.put(URL, data=raw[:-20], headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")
        assert probe.received
        assert not probe.calls

    async def test_has_a_budget_of_its_own(self, rest: Rest, probe: Probe) -> None:
        probe.go.clear()
        first = asyncio.create_task(_put(rest, b"x"))
        await probe.running.acquire()
        assert await _put(rest, b"y") == 503
        probe.go.set()
        assert await first == 200
        assert await _put(rest, b"z") == 200

    async def test_is_audited_once_it_was_taken(self, rest: Rest) -> None:
        assert await _put(rest, b"x") == 200
        assert [entry.action for entry in rest.platform.audited] == ["probe.import"]


class TestShares:
    @pytest.fixture
    def http_settings(self) -> GatewayHttp:
        return GatewayHttp(max_streams=2)

    async def test_one_application_leaves_some_to_the_others(self, rest: Rest, probe: Probe) -> None:
        probe.go.clear()
        first = asyncio.create_task(_put(rest, b"x"))
        await probe.running.acquire()
        assert await _put(rest, b"y") == 503
        other = asyncio.create_task(_put(rest, b"z", key="stranger-key"))
        await probe.running.acquire()
        probe.go.set()
        assert [await first, await other, await _put(rest, b"y")] == [200] * 3


class TestAnswer:
    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    async def test_is_sent_as_its_type(self, rest: Rest, probe: Probe, coding: str) -> None:
        probe.pieces = [b"a,b\n", b"1,2\n" * 50_000, b"3,4\n"]
        async with rest.session.get(EXPORT, headers={**SENT, "Accept-Encoding": coding}) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Request-Id"]
            assert response.headers["X-RateLimit-Limit"] == "unlimited"
            assert response.headers.get("Content-Encoding") == (None if coding == "identity" else "gzip")
            assert await response.read() == b"".join(piece for piece in probe.pieces if isinstance(piece, bytes))
        assert probe.closed

    async def test_of_nothing_is_empty(self, rest: Rest) -> None:
        async with rest.session.get(EXPORT, headers=SENT) as response:
            assert (response.status, await response.read()) == (200, b"")

    async def test_is_audited_before_it_begins(self, rest: Rest, probe: Probe) -> None:
        rest.platform.away.add("record_audit")
        probe.pieces = [b"secret"]
        async with rest.session.get(EXPORT, headers=SENT) as response:
            assert response.status == 503
            assert b"secret" not in await response.read()
        rest.platform.away.clear()
        async with rest.session.get(EXPORT, headers=SENT) as response:
            assert response.status == 200
        assert [entry.action for entry in rest.platform.audited] == ["probe.export"]

    async def test_failure_before_its_first_piece_is_an_error_answer(self, rest: Rest, probe: Probe) -> None:
        for error, status in ((errors.ServiceUnavailable(retry_after=1), 503), (RuntimeError("x"), 500)):
            probe.pieces = [error]
            async with rest.session.get(EXPORT, headers=SENT) as response:
                assert response.status == status
                assert (await response.json())["status"] == "error"
            assert probe.closed

    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    async def test_failure_midway_cuts_it(self, rest: Rest, probe: Probe, coding: str) -> None:
        probe.pieces = [b"1,2\n" * 50_000, RuntimeError("the inside"), b"3,4\n"]
        async with rest.session.get(EXPORT, headers={**SENT, "Accept-Encoding": coding}) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert (await rest.get("/nothing")).status == 404

    async def test_failure_midway_is_no_good_end_for_an_old_client_either(self, rest: Rest, probe: Probe) -> None:
        probe.pieces = [b"1,2\n", RuntimeError("the inside")]
        url = rest.session._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET {EXPORT} HTTP/1.0\r\nX-API-Key: owner-key\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    async def test_waits_for_who_takes_it_and_gives_up_on_who_does_not(self, rest: Rest, probe: Probe) -> None:
        probe.pieces = [b"x" * 100_000] * 1000
        url = rest.session._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET {EXPORT} HTTP/1.1\r\nHost: x\r\nX-API-Key: owner-key\r\n\r\n".encode())
        await reader.readline()
        while not probe.closed:
            await asyncio.sleep(0.02)
        assert 0 < probe.given < 900
        writer.close()

    async def test_client_that_leaves_ends_it(self, rest: Rest, probe: Probe) -> None:
        probe.pieces = [b"x" * 100_000] * 1000
        response = await rest.session.get(EXPORT, headers=SENT)
        await response.content.readany()
        response.close()
        while not probe.closed:
            await asyncio.sleep(0.02)
        assert probe.given < 900

    async def test_head_starts_nothing(self, rest: Rest, probe: Probe) -> None:
        probe.pieces = [b"x"] * 10
        async with rest.session.head(EXPORT, headers=SENT) as response:
            assert (response.status, response.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        assert probe.given <= 1
        assert probe.closed


async def _put(rest: Rest, data: object, *, key: str = "owner-key") -> int:
    async with rest.session.put(URL, data=data, headers={**SENT, "X-API-Key": key}) as response:
        return response.status
