"""Deliveries and credentials to test the push senders with; the keys are made for each run."""

import functools
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from libs.envelope import Button, Content, Delivery, Push
from libs.rpc import Credential

MESSAGE_ID = "0199b2d0-7b5c-7000-8000-0000000000aa"
REGISTERED_AT_MS = 1_767_000_000_000
TOPIC = "com.example.app"
RICH = Content(
    title="주문이 발송되었습니다",
    body='Order "12345" is on its way',
    data={"order_id": "12345", "count": 3, "tags": ["a", "b"], "gift": True, "note": None, "한글": "값"},
    push=Push(
        badge=2,
        sound="chime.caf",
        image="https://cdn.example.com/i.png",
        click_action="OPEN_ORDER",
        buttons=(Button(id="yes", text="예"), Button(id="no", text="No")),
        channel_id="orders",
        category="ORDER",
        mutable_content=True,
        content_available=True,
        interruption_level="time-sensitive",
    ),
    collapse_key="order-12345",
)
PLAIN = Content(title="Hello", body="World")
SILENT = Content(data={"sync": "now"}, push=Push(silent=True))


def delivery(content: Content = PLAIN, **changes: Any) -> Delivery:
    sample = Delivery(
        message_id=MESSAGE_ID,
        subscription_id="0199b2d0-7b5c-7000-8000-0000000000bb",
        attempt=1,
        token="a1" * 32,
        token_version=1,
        registered_at_ms=REGISTERED_AT_MS,
        test=False,
        deadline_ms=1_767_225_600_000 + 3_600_000,
        content=content,
    )
    return msgspec.structs.replace(sample, **changes)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@functools.cache
def apple_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def google_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def apple_credential(**changes: Any) -> Credential:
    secret = {"team_id": "TEAM123456", "key_id": "KEY1234567", "private_key_pem": pem(apple_key()), "topic": TOPIC}
    return Credential(version=1, secret=secret | changes)


def google_credential(**changes: Any) -> Credential:
    secret = {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "k1",
        "private_key": pem(google_key()),
        "client_email": "sender@demo-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return Credential(version=1, secret=secret | changes)
