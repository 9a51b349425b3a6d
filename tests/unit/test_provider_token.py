"""Apple's provider tokens: valid, seldom new, the same in every process."""

from itertools import pairwise

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from libs.clock import FakeClock
from services.senders.provider_token import BACKDATE, MINT_INTERVAL, WINDOW, MalformedKey, ProviderToken
from tests.push_samples import apple_key, google_key, pem

HOUR = 3600


def token_at(clock: FakeClock) -> ProviderToken:
    return ProviderToken("TEAM123456", "KEY1234567", pem(apple_key()), clock)


def issued_at(token: ProviderToken) -> int:
    text = token.authorization().removeprefix("bearer ")
    claims = jwt.decode(text, apple_key().public_key(), algorithms=["ES256"], options={"verify_iat": False})
    assert claims.keys() == {"iss", "iat"}
    assert claims["iss"] == "TEAM123456"
    assert jwt.get_unverified_header(text) == {"alg": "ES256", "kid": "KEY1234567", "typ": "JWT"}
    return int(claims["iat"])


def test_two_processes_hold_the_same_token() -> None:
    clock = FakeClock()
    mine = token_at(clock).authorization()
    clock.advance(60)
    assert token_at(clock).authorization() == mine


@pytest.mark.parametrize("offset", [0, 599, 600, 1799, 1800, 2399])
def test_a_token_is_never_too_old_and_never_of_the_future(offset: int) -> None:
    clock = FakeClock(1_767_225_600.0 + offset)
    token = token_at(clock)
    seen: list[int] = []
    for _ in range(240):
        moment = issued_at(token)
        assert BACKDATE <= clock.time() - moment <= WINDOW + BACKDATE < HOUR
        if moment not in seen:
            seen.append(moment)
        clock.advance(60)
    assert all(later - earlier >= MINT_INTERVAL for earlier, later in pairwise(seen))


def test_a_token_called_expired_is_renewed_once_it_is_old_enough() -> None:
    clock = FakeClock(1_767_225_600.0 + BACKDATE)
    token = token_at(clock)
    refused = token.authorization()
    assert not token.renew(refused), "ten minutes old: Apple wants no new one yet"
    clock.advance(MINT_INTERVAL)
    assert token.renew(refused)
    renewed = token.authorization()
    assert renewed != refused
    assert issued_at(token) == int(clock.time())
    assert token.renew(refused), "somebody else renewed it already"
    assert token.authorization() == renewed
    assert not token.renew(renewed)


def test_a_clock_set_back_does_not_leave_a_token_of_the_future() -> None:
    clock = FakeClock()
    token = token_at(clock)
    token.authorization()
    clock.advance(-2 * HOUR)
    assert issued_at(token) <= clock.time()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_what_is_no_p256_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        ProviderToken("T", "K", text, FakeClock())


def test_an_rsa_key_is_refused() -> None:
    assert isinstance(google_key(), rsa.RSAPrivateKey)
    with pytest.raises(MalformedKey):
        ProviderToken("T", "K", pem(google_key()), FakeClock())
