"""Provider credentials: set, named, deleted; never shown. The application service keeps them, and the audit of them."""

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from libs import rpc
from libs.api.application import (
    ApnsCredential,
    CredentialDeleted,
    FcmCredential,
    ProviderCredential,
    ProviderCredentials,
)
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339

SET_SECONDS = 10.0
"""Testing a long key takes its time."""


async def set_apns(gateway: Gateway, call: Call[ApnsCredential]) -> Answer:
    return await _set(gateway, call, "apns")


async def set_fcm(gateway: Gateway, call: Call[FcmCredential]) -> Answer:
    return await _set(gateway, call, "fcm")


async def list_all(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.ListCredentials(call.caller.application_id)
    found = await gateway.bus.call("application", "list_credentials", question, rpc.Credentials)
    return Answer(200, ProviderCredentials([_rendered(info) for info in found.credentials]))


async def delete_apns(gateway: Gateway, call: Call[None]) -> Answer:
    return await _delete(gateway, call, "apns")


async def delete_fcm(gateway: Gateway, call: Call[None]) -> Answer:
    return await _delete(gateway, call, "fcm")


async def _set(gateway: Gateway, call: Call[ApnsCredential] | Call[FcmCredential], provider: rpc.Provider) -> Answer:
    secret = {name: value for name, value in msgspec.structs.asdict(call.input).items() if value is not None}
    caller = call.caller
    request = rpc.SetCredential(caller.application_id, provider, secret, caller.actor, call.request_id)
    info = await gateway.bus.call("application", "set_credential", request, rpc.CredentialInfo, SET_SECONDS)
    return Answer(201 if info.version == 1 else 200, _rendered(info))


async def _delete(gateway: Gateway, call: Call[None], provider: rpc.Provider) -> Answer:
    request = rpc.DeleteCredential(call.caller.application_id, provider, call.caller.actor, call.request_id)
    await gateway.bus.call("application", "delete_credential", request, rpc.Empty)
    return Answer(200, CredentialDeleted(provider))


def _rendered(info: rpc.CredentialInfo) -> ProviderCredential:
    return ProviderCredential(info.provider, info.version, rfc3339(info.updated_at_ms))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _example_rsa_key() -> rsa.RSAPrivateKey:
    """Of the two largest primes below 2^1024: anybody can see that it protects nothing."""
    p, q, e = 2**1024 - 105, 2**1024 - 179, 65537
    d = rsa.rsa_recover_private_exponent(e, p, q)
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *parts, rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


EXAMPLE_APNS = {
    "team_id": "TEAM123456",
    "key_id": "KEY1234567",
    "private_key_pem": _pem(ec.derive_private_key(1, ec.SECP256R1())),
    "topic": "com.example.shop",
}
EXAMPLE_FCM = {
    "type": "service_account",
    "project_id": "shop-1",
    "client_email": "push@shop-1.iam.gserviceaccount.com",
    "private_key": _pem(_example_rsa_key()),
    "token_uri": "https://oauth2.googleapis.com/token",
}

ROUTES = (
    Route(
        method="PUT",
        path="/credentials/apns",
        summary="Set the key that messages are sent to APNs with; senders use it within half a minute",
        scopes=("manage",),
        handler=set_apns,
        body=ApnsCredential,
        answer=ProviderCredential,
        other_statuses=(201,),
        example=EXAMPLE_APNS,
    ),
    Route(
        method="PUT",
        path="/credentials/fcm",
        summary="Set the service account that messages are sent to FCM with; senders use it within half a minute",
        scopes=("manage",),
        handler=set_fcm,
        body=FcmCredential,
        answer=ProviderCredential,
        other_statuses=(201,),
        example=EXAMPLE_FCM,
    ),
    Route(
        method="GET",
        path="/credentials",
        summary="List which provider credentials are set",
        scopes=("manage",),
        handler=list_all,
        answer=ProviderCredentials,
    ),
    Route(
        method="DELETE",
        path="/credentials/apns",
        summary="Delete the APNs key: messages to APNs wait until another one is set",
        scopes=("manage",),
        handler=delete_apns,
        answer=CredentialDeleted,
        errors=("resource_not_found",),
    ),
    Route(
        method="DELETE",
        path="/credentials/fcm",
        summary="Delete the FCM service account: messages to FCM wait until another one is set",
        scopes=("manage",),
        handler=delete_fcm,
        answer=CredentialDeleted,
        errors=("resource_not_found",),
    ),
)
