"""A `client` key proves nothing by itself: what its holder may touch is said by a subscription's secret."""

from collections.abc import Sequence

import pytest

from libs.errors import ServiceUnavailable
from services.ingest.auth import KNOWN_FOR, UNKNOWN_FOR
from services.ingest.exchange import Route
from tests.contract.rest_gateway import LIMITED, OWNER, STRANGER, Rest
from tests.contract.rest_probe import MADE, Probe

pytest_plugins = ["tests.contract.rest_fixtures"]

PATH = f"/probes/{MADE}"


@pytest.fixture
def rest_routes(probe: Probe) -> Sequence[Route]:
    return probe.routes


@pytest.fixture
def secret(rest: Rest) -> str:
    rest.platform.secrets[OWNER, "the-secret"] = MADE
    return "the-secret"


async def test_secret_says_which_subscription_the_caller_is(rest: Rest, secret: str) -> None:
    answer = await rest.get(PATH, key="client-key", headers={"X-Subscription-Secret": secret})
    assert (answer.status, answer.data["subscription_id"]) == (200, MADE)


async def test_without_a_secret_the_caller_is_nobody(rest: Rest) -> None:
    answer = await rest.get(PATH, key="client-key")
    assert (answer.status, answer.data["subscription_id"]) == (200, None)
    assert rest.platform.verifications == 0


@pytest.mark.parametrize("wrong", ["", "guess", "the-secret ", "비밀", "x" * 4000])
async def test_wrong_secret_is_refused_by_its_header(rest: Rest, probe: Probe, secret: str, wrong: str) -> None:
    answer = await rest.get(PATH, key="client-key", headers={"X-Subscription-Secret": f"no {wrong}"})
    assert (answer.status, answer.code) == (401, "authentication_failed")
    assert answer.details == {"header": "X-Subscription-Secret"}
    assert not probe.calls


async def test_secret_of_another_application_is_none(rest: Rest) -> None:
    rest.platform.secrets[STRANGER, "theirs"] = MADE
    answer = await rest.get(PATH, key="client-key", headers={"X-Subscription-Secret": "theirs"})
    assert answer.status == 401


@pytest.mark.parametrize("key", ["owner-key", "client-and-more-key", "reader-key"])
async def test_other_keys_need_none_and_are_asked_for_none(rest: Rest, key: str) -> None:
    answer = await rest.get(PATH, key=key, headers={"X-Subscription-Secret": "guess"})
    assert (answer.status, answer.data["subscription_id"]) == (200, None)
    assert rest.platform.verifications == 0


async def test_is_asked_for_once_in_a_while(rest: Rest, secret: str) -> None:
    headers = {"X-Subscription-Secret": secret}
    for _ in range(3):
        await rest.get(PATH, key="client-key", headers=headers)
    assert rest.platform.verifications == 1
    rest.platform.secrets.clear()
    rest.clock.advance(KNOWN_FOR)
    assert (await rest.get(PATH, key="client-key", headers=headers)).status == 401


async def test_refused_one_is_remembered_shortly(rest: Rest) -> None:
    headers = {"X-Subscription-Secret": "guess"}
    for _ in range(3):
        assert (await rest.get(PATH, key="client-key", headers=headers)).status == 401
    assert rest.platform.verifications == 1
    rest.clock.advance(UNKNOWN_FOR)
    await rest.get(PATH, key="client-key", headers=headers)
    assert rest.platform.verifications == 2


async def test_the_same_secret_of_two_applications_is_two(rest: Rest, secret: str) -> None:
    other = "0199a1b2-0000-7000-8000-0000000000bb"
    rest.platform.secrets[LIMITED, secret] = other
    headers = {"X-Subscription-Secret": secret}
    found = [await rest.get(PATH, key=key, headers=headers) for key in ("client-key", "limited-client-key")]
    assert [each.data["subscription_id"] for each in found] == [MADE, other]


async def test_guesses_count_as_requests(rest: Rest) -> None:
    answer = await rest.get(PATH, key="limited-client-key", headers={"X-Subscription-Secret": "guess"})
    assert answer.status == 401
    assert answer.headers["X-RateLimit-Remaining"] == "299"


async def test_where_nobody_can_tell_it_is_503(rest: Rest) -> None:
    rest.platform.away.add("verify_secret")
    answer = await rest.get(PATH, key="client-key", headers={"X-Subscription-Secret": "any"})
    assert (answer.status, answer.code) == (503, ServiceUnavailable.code)
