"""What a token of each type looks like, and when two of them are one address."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.errors import InvalidSubscriptionType, InvalidToken
from libs.tokens import hint, normalised

POINT = (
    ec.derive_private_key(7, ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
P256DH = base64.urlsafe_b64encode(POINT).rstrip(b"=").decode()
AUTH = base64.urlsafe_b64encode(bytes(range(16))).rstrip(b"=").decode()
ENDPOINT = "https://updates.push.services.example.com/wpush/v2/gAAAAA-xyz"


def push(endpoint: str = ENDPOINT, p256dh: str = P256DH, auth: str = AUTH, **more: object) -> str:
    return json.dumps({"endpoint": endpoint, "keys": {"p256dh": p256dh, "auth": auth}, **more})


@pytest.mark.parametrize(
    ("kind", "given", "normal"),
    [
        ("iOSPush", "AB" * 32, "ab" * 32),
        ("iOSPush", "ab" * 80, "ab" * 80),
        ("AndroidPush", "f:APA91b-" + "x" * 140, "f:APA91b-" + "x" * 140),
        ("Email", "User@EXAMPLE.com", "User@example.com"),
        ("Email", "유저@도메인.한국", "유저@도메인.한국"),
        ("Email", "a@xn--hq1bm8jm9l.xn--3e0b707e", "a@도메인.한국"),
        ("SMS", "+82 10-1234-5678", "+821012345678"),
        ("SMS", "+82 010 1234 5678", "+821012345678"),
        ("KakaoTalk", "+821012345678", "+821012345678"),
        ("InAppMessage", "device-7", "device-7"),
    ],
)
def test_a_token_has_one_normal_form(kind: str, given: str, normal: str) -> None:
    assert normalised(kind, given, "token") == normal
    assert normalised(kind, normal, "token") == normal


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *(("iOSPush", each) for each in ("", "zz" * 32, "ab" * 31, "ab" * 101, "a" * 65, "ab" * 32 + "\n")),
        *(("AndroidPush", each) for each in ("", "x" * 4097, "a b", "토큰", "a\n", "\x7f")),
        *(
            ("Email", each)
            for each in ("", "a", "a@", "@b.com", "a b@c.com", "a@localhost", "a@b.com\n", "a@[127.0.0.1]")
        ),
        *(("Email", each) for each in ("a@b..com", "a" * 65 + "@b.com", "a@b.com, c@d.com", "x" * 9000)),
        *(("SMS", each) for each in ("", "01012345678", "821012345678", "+", "+82", "+1555", "+82101234567890123")),
        *(("SMS", each) for each in ("+821012345678 ext. 5", "+82-CALL-ME-NOW", "+" + "1" * 100)),
        *(("KakaoTalk", each) for each in ("", "kakao-id")),
        *(("InAppMessage", each) for each in ("", "a b", "x" * 257)),
    ],
)
def test_what_is_no_token_is_refused_and_not_repeated(kind: str, given: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        normalised(kind, given, "token")
    assert refused.value.details == {"type": kind}


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidSubscriptionType):
        normalised("Pigeon", "x", "token")


@pytest.mark.parametrize(("kind", "given", "fits"), [("AndroidPush", "dPqxK9", True), ("AndroidPush", "a:b", False)])
def test_an_installation_id_of_firebase_is_base64url(kind: str, given: str, fits: bool) -> None:
    if fits:
        assert normalised(kind, given, "fid") == given
    else:
        with pytest.raises(InvalidToken):
            normalised(kind, given, "fid")


@pytest.mark.parametrize(("kind", "given"), [("iOSPush", "ab" * 32), ("SMS", "+821012345678")])
def test_only_android_has_installation_ids(kind: str, given: str) -> None:
    with pytest.raises(InvalidToken):
        normalised(kind, given, "fid")


@pytest.mark.parametrize(
    "given",
    [
        push(),
        push(expirationTime=None),
        push(ENDPOINT.replace("updates", "UPDATES")),
        push(p256dh=P256DH + "=", auth=AUTH + "=="),
        json.dumps({"keys": {"auth": AUTH, "p256dh": P256DH}, "endpoint": ENDPOINT}, indent=4),
    ],
)
def test_a_browsers_subscription_has_one_form_however_it_was_written(given: str) -> None:
    assert normalised("WebPush", given, "token") == normalised("WebPush", push(), "token")


@pytest.mark.parametrize(
    "given",
    [
        "https://example.com/x",
        "{}",
        push("http://push.example.com/x"),
        push("https://localhost/x"),
        push("https://push.localhost/x"),
        push("https://127.0.0.1/x"),
        push("https://10.0.0.1/x"),
        push("https://169.254.169.254/latest/meta-data"),
        push("https://[::1]/x"),
        push("https://[fe80::1]/x"),
        push("https://[::ffff:127.0.0.1]/x"),
        push("https://2130706433/x"),
        push("https://0x7f.1/x"),
        push("https://127.1/x"),
        push("https://metadata.google.internal/x"),
        push("https://printer.local/x"),
        push("https://intranet/x"),
        push("https://user:secret@push.example.com/x"),
        push("https://push.example.com@127.0.0.1/x"),
        push("https://push.example.com\\@127.0.0.1/x"),
        push("https://push.example.com:0/x"),
        push("https://push.example.com:99999/x"),
        push("https://푸시.한국/x"),
        push("https://push.example.com/\n"),
        push("https://push.example.com/" + "x" * 3000),
        push("ftp://push.example.com/x"),
        push("https:///x"),
        push(p256dh="AA"),
        push(p256dh=base64.urlsafe_b64encode(b"\x04" + b"\x01" * 64).decode()),
        push(p256dh=base64.urlsafe_b64encode(b"\x02" + POINT[1:33]).decode()),
        push(auth="AA"),
        push(auth="not base64!"),
    ],
)
def test_a_browsers_subscription_leads_nowhere_but_to_a_public_push_service(given: str) -> None:
    with pytest.raises(InvalidToken):
        normalised("WebPush", given, "token")


@pytest.mark.parametrize(
    ("kind", "given", "shown"),
    [
        ("iOSPush", "ab" * 31 + "1234", "1234"),
        ("SMS", "+821012345678", "5678"),
        ("Email", "a@b.io", ".io"),
        ("InAppMessage", "abcdef", "def"),
        ("InAppMessage", "a", ""),
        ("WebPush", push(), "-xyz"),
    ],
)
def test_a_hint_shows_the_end_and_never_the_whole(kind: str, given: str, shown: str) -> None:
    assert hint(kind, normalised(kind, given, "token")) == shown
