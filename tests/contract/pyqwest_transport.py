"""A second implementation of the senders' `Transport`, on pyqwest: held to the same contract, at thrice the CPU."""

from collections.abc import Mapping

from pyqwest import Client, HTTPTransport, HTTPVersion, StreamError

from services.senders.transport import NotSent, Response, UnknownOutcome


class PyqwestTransport:
    def __init__(self, ca_pem: bytes | None, timeout: float) -> None:
        self._transport = HTTPTransport(
            tls_ca_cert=ca_pem,
            http_version=HTTPVersion.HTTP2,
            timeout=timeout,
            connect_timeout=timeout / 2,
            follow_redirects=False,
            enable_otel=False,
        )
        self._client = Client(self._transport)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        try:
            answer = await self._client.post(url, list(headers.items()), body)
        except TimeoutError:
            raise UnknownOutcome("timeout", timed_out=True) from None
        except (ConnectionError, StreamError) as error:
            # A stream error is raised for exactly the streams that the peer did not process.
            raise NotSent from error
        except Exception as error:
            # Its read, write and protocol errors share no base.
            raise UnknownOutcome("connection_lost") from error
        return Response(answer.status, answer.content, answer.headers.get, self)

    async def close(self) -> None:
        await self._transport.aclose()
