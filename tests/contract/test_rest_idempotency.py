"""Idempotency-Key on every POST: the same key and request get the same answer for 24 hours, and nothing is done twice.

How messages commit theirs with what they do is in `test_rest_messages`.
"""

import asyncio
import gzip
import json
from collections.abc import Sequence

import msgspec
import pytest

from libs import errors, ids, rpc
from libs.ids import new_id, time_of
from services.ingest.exchange import Route
from services.ingest.idempotency import Guard
from services.ingest.repeats import Outcome, Rendered, Repeats, derived_id
from tests.contract.rest_gateway import OWNER, STRANGER, AnotherGateway, Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

KEY = {"Idempotency-Key": "order-1"}


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


async def test_repetition_gets_the_same_answer_and_does_nothing(rest: Rest, probe: Probe) -> None:
    first, second = [await rest.post("/probes", {}, headers=KEY) for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert first.headers["X-Made"] == second.headers["X-Made"] == "yes"
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(probe.calls) == len(rest.platform.audited) == 1
    (remembered,) = rest.platform.remembered
    assert remembered.subjects == [MADE]


async def test_without_a_key_nothing_is_kept(rest: Rest, probe: Probe) -> None:
    for _ in range(2):
        await rest.post("/probes", {})
    assert len(probe.calls) == 2
    assert probe.calls[0].new_id is None
    assert not rest.platform.remembered


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/probes", {"text": "other"}),
        (f"/probes/{MADE}/mark", {}),
        ("/probes/0199a1b2-0000-7000-8000-0000000000bb/mark", {}),
    ],
)
async def test_key_of_another_request_is_refused(rest: Rest, probe: Probe, path: str, body: object) -> None:
    await rest.post("/probes", {}, headers=KEY)
    answer = await rest.post(path, body, headers=KEY)
    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    korean = await rest.post(path, body, headers={**KEY, "Accept-Language": "ko"})
    assert korean.body["error"]["message"] == "이 Idempotency-Key는 다른 요청에 이미 사용되었습니다."
    assert len(probe.calls) == 1


async def test_the_same_key_of_another_application_is_another(rest: Rest, probe: Probe) -> None:
    first = await rest.post("/probes", {}, headers=KEY)
    second = await rest.post("/probes", {}, headers=KEY, key="stranger-key")
    assert second.status == 201
    assert first.data["new_id"] != second.data["new_id"]
    assert len(probe.calls) == 2


class TestClientKeys:
    """Anybody has one: what it says and learns under a key is its subscription's alone."""

    async def test_the_answer_to_one_subscription_is_not_given_to_another(self, rest: Rest, probe: Probe) -> None:
        mine, path = new_id(), f"/probes/{MADE}/mark"
        rest.platform.secrets = {(OWNER, "theirs"): MADE, (OWNER, "mine"): mine}
        first = await rest.post(path, {}, key="client-key", headers={**KEY, "X-Subscription-Secret": "theirs"})
        for headers in ({}, {"X-Subscription-Secret": "mine"}):
            other = await rest.post(path, {}, key="client-key", headers={**KEY, **headers})
            assert "Idempotency-Replayed" not in other.headers
            assert other.body != first.body
        assert [call.caller.subscription_id for call in probe.calls] == [MADE, None, mine]
        assert len({call.new_id for call in probe.calls}) == 3
        again = await rest.post(path, {}, key="client-key", headers={**KEY, "X-Subscription-Secret": "theirs"})
        assert (again.headers["Idempotency-Replayed"], again.body) == ("true", first.body)

    async def test_take_no_key_from_the_back_end_and_learn_none_of_its_answers(self, rest: Rest, probe: Probe) -> None:
        by_app = await rest.post("/probes", {}, key="client-key", headers=KEY)
        by_back_end = await rest.post("/probes", {"text": "other"}, headers=KEY)
        assert (by_app.status, by_back_end.status) == (201, 201)
        asked = await rest.post("/probes", {"text": "other"}, key="client-key", headers=KEY)
        assert (asked.status, asked.code) == (422, "idempotency_key_reused")
        assert asked.details == {"key": KEY["Idempotency-Key"]}

    async def test_of_two_subscriptions_share_no_execution(self, rest: Rest, probe: Probe) -> None:
        probe.go.clear()
        rest.platform.secrets[OWNER, "theirs"] = MADE
        keys: list[dict[str, str]] = [{}, {"X-Subscription-Secret": "theirs"}]
        asked = [
            asyncio.create_task(rest.post("/probes", {}, key="client-key", headers={**KEY, **headers}))
            for headers in keys
        ]
        for _ in keys:
            await probe.running.acquire()
        probe.go.set()
        answers = [await each for each in asked]
        assert all("Idempotency-Replayed" not in answer.headers for answer in answers)


async def test_a_kept_answer_is_read_by_who_has_the_request_alone(rest: Rest, probe: Probe) -> None:
    """It may show a secret, which nobody else must find in a table or a backup."""
    answer = await rest.post("/probes", {"text": "ss_the-secret-of-a-device"}, headers=KEY)
    (kept,) = rest.platform.remembered
    assert b"ss_the-secret" not in msgspec.msgpack.encode(kept)
    again = await rest.post("/probes", {"text": "ss_the-secret-of-a-device"}, headers=KEY)
    assert again.body == answer.body


async def test_compression_makes_no_other_request(rest: Rest, probe: Probe) -> None:
    raw = json.dumps({"text": "x"}).encode()
    await rest.post("/probes", raw=raw, headers=KEY)
    again = await rest.post("/probes", raw=gzip.compress(raw), headers={**KEY, "Content-Encoding": "gzip"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(probe.calls) == 1


@pytest.mark.parametrize("path", ["/probes", "/probes/check"])
@pytest.mark.parametrize("key", ["", "x" * 256, "주문"])
async def test_key_that_is_none_is_refused_everywhere(rest: Rest, probe: Probe, path: str, key: str) -> None:
    answer = await rest.post(path, {}, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (422, "validation_error")
    assert list(answer.details["fields"]) == ["Idempotency-Key"]
    assert not probe.calls


async def test_what_changes_nothing_is_simply_done_again(rest: Rest, probe: Probe) -> None:
    for text in ("a", "b"):
        answer = await rest.post("/probes/check", {"text": text}, headers=KEY)
        assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (201, None)
    assert len(probe.calls) == 2
    assert not rest.platform.kept


async def test_errors_are_not_kept(rest: Rest, probe: Probe) -> None:
    probe.error = errors.InvalidToken(type="iOSPush")
    assert (await rest.post("/probes", {}, headers=KEY)).status == 400
    probe.error = None
    answer = await rest.post("/probes", {}, headers=KEY)
    assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (201, None)
    assert probe.calls[0].new_id == probe.calls[1].new_id == answer.data["new_id"]


async def test_answer_that_could_not_be_kept_is_not_given_and_made_again_alike(rest: Rest, probe: Probe) -> None:
    rest.platform.away.add("remember")
    answer = await rest.post("/probes", {}, headers=KEY)
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "service_unavailable", "1")
    rest.platform.away.clear()
    answer = await rest.post("/probes", {}, headers=KEY)
    assert answer.status == 201
    assert probe.calls[0].new_id == probe.calls[1].new_id


class TestAtOnce:
    async def test_in_one_gateway_share_an_execution(self, rest: Rest, probe: Probe) -> None:
        probe.go.clear()
        asked = [asyncio.create_task(rest.post("/probes", {}, headers=KEY)) for _ in range(10)]
        await probe.running.acquire()
        other = await rest.post("/probes", {"text": "other"}, headers=KEY)
        assert (other.status, other.code) == (422, "idempotency_key_reused")
        probe.go.set()
        answers = [await each for each in asked]
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
        assert len(probe.calls) == 1

    async def test_share_its_failure_too(self, rest: Rest, probe: Probe) -> None:
        probe.go.clear()
        probe.error = errors.ResourceNotFound(id="x")
        asked = [asyncio.create_task(rest.post("/probes", {}, headers=KEY)) for _ in range(3)]
        await probe.running.acquire()
        probe.go.set()
        assert [(await each).status for each in asked] == [404] * 3

    async def test_in_two_gateways_the_first_kept_answer_wins(
        self, rest: Rest, probe: Probe, another_gateway: AnotherGateway
    ) -> None:
        probe.go.clear()
        async with another_gateway() as other:
            asked = [asyncio.create_task(each.post("/probes", {}, headers=KEY)) for each in (rest, other)]
            for _ in range(2):
                await probe.running.acquire()
            probe.go.set()
            answers = [await each for each in asked]
        assert len(probe.calls) == 2
        assert probe.calls[0].new_id == probe.calls[1].new_id
        assert answers[0].content == answers[1].content
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 1
        assert len(rest.platform.remembered) == 1

    async def test_who_leaves_does_not_take_the_outcome_along(self) -> None:
        class Nothing:
            async def call(self, *_: object) -> rpc.Replay:
                return rpc.Replay()

        done = asyncio.Event()

        async def perform() -> Outcome:
            await done.wait()
            return Outcome(Rendered(201, b"{}", {}))

        repeats, guard = Repeats(Nothing()), Guard("k", b"")  # type: ignore[arg-type]  # nothing but `call` is used
        first, leaves, stays = (asyncio.create_task(repeats.once(OWNER, guard, perform)) for _ in range(3))
        await asyncio.sleep(0)
        leaves.cancel()
        done.set()
        assert [(await each).status for each in (first, stays)] == [201, 201]

    async def test_who_waits_learns_that_the_first_was_interrupted(self) -> None:
        class Never:
            async def call(self, *_: object) -> None:
                await asyncio.Event().wait()

        repeats, guard = Repeats(Never()), Guard("k", b"")  # type: ignore[arg-type]  # nothing but `call` is used
        tasks = [asyncio.create_task(repeats.once(OWNER, guard, asyncio.Event().wait)) for _ in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(errors.ServiceUnavailable):
            await tasks[1]


class TestDerivedId:
    NOW_MS = 1_795_413_600_000 + 1_234_567

    def derived(self, application_id: str, guard: Guard) -> str:
        return derived_id(application_id, guard, self.NOW_MS)

    def test_is_the_same_for_the_same_request_alone(self) -> None:
        base = self.derived(OWNER, Guard("order-1", b"a"))
        assert base == self.derived(OWNER, Guard("order-1", b"a"))
        others = [
            self.derived(STRANGER, Guard("order-1", b"a")),
            self.derived(OWNER, Guard("order-2", b"a")),
            self.derived(OWNER, Guard("order-1", b"b")),
        ]
        assert len({base, *others}) == 4

    def test_is_of_this_hour_where_the_key_tells_no_time(self) -> None:
        for number in range(200):
            found = self.derived(OWNER, Guard(f"order-{number}", b""))
            assert ids.is_id(found)
            assert (found[14], found[19] in "89ab") == ("7", True)
            assert time_of(found) == 1_795_413_600

    @pytest.mark.parametrize("form", [str, str.upper, lambda key: key.replace("-", "")])
    def test_takes_the_time_of_a_key_that_has_one(self, form: object) -> None:
        key = "01a20700-7aa7-7440-859d-b13734ccc71e"
        assert callable(form)
        assert time_of(self.derived(OWNER, Guard(form(key), b""))) == time_of(key)
        assert self.derived(OWNER, Guard(key, b"")) != key

    def test_is_never_of_the_future(self) -> None:
        assert time_of(self.derived(OWNER, Guard("ffffffff-7aa7-7440-859d-b13734ccc71e", b""))) == 1_795_413_600


async def test_stream_is_known_by_what_is_said_of_it_beforehand(rest: Rest, probe: Probe) -> None:
    csv = {**KEY, "Content-Type": "text/csv"}
    first = await rest.post("/probes/files", raw=b"a,b", headers=csv)
    again = await rest.post("/probes/files", raw=b"a,b", headers=csv)
    assert (first.status, again.headers.get("Idempotency-Replayed")) == (200, "true")
    for path, kind in (("/probes/files?format=x", "text/csv"), ("/probes/files", "application/x-ndjson")):
        answer = await rest.post(path, raw=b"a,b", headers={**KEY, "Content-Type": kind})
        assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert len(probe.calls) == 1
    assert probe.received == b"a,b"
