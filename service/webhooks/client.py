"""One message to one receiver: a POST that follows, keeps, decodes and remembers nothing of the answer.

httpcore and TLS are imported with the first message: a gateway without webhooks does without them.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from service.webhooks.address import AddressGuard, Receiver, ReceiverRefused, parse_receiver

if TYPE_CHECKING:
    import httpcore

# A receiver's `Retry-After` in seconds; a date is as good as none.
_LONGEST_WAIT_S = 6 * 3600.0


class Answer(NamedTuple):
    """`status` is None where nothing came; `detail` says what was wrong then, or with it."""

    status: int | None
    detail: str | None = None
    retry_after_s: float = 0.0

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookClient:
    """Sends to addresses that `guard` has looked at. A receiver has `timeout_s` for everything together.

    Each message has a connection of its own: kept ones break under the next message. Nothing of an answer is read
    but its head.
    """

    def __init__(self, guard: AddressGuard, timeout_s: float) -> None:
        self.guard, self._timeout_s = guard, timeout_s

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Whatever goes wrong is in the answer."""
        import httpcore

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(url, body, headers)
        except ReceiverRefused as refused:
            return Answer(None, str(refused))
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout_s:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return Answer(None, f"{type(error).__name__}: {error}".rstrip(": "))

    async def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        import httpcore

        backend = _guarded_backend(self.guard, parse_receiver(url))
        sent = {**headers, "Content-Type": "application/json", "User-Agent": "Fovea"}
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_keepalive_connections=0, network_backend=backend
            ) as pool,
            pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
        ):
            status: int = response.status
            found = {name.lower(): value for name, value in response.headers}
        if 200 <= status < 300:
            return Answer(status)
        detail = f"it answered {status}"
        if 300 <= status < 400:
            detail += ", and redirections are not followed: register the address that it leads to"
        return Answer(status, detail, _seconds(found.get(b"retry-after", b"")))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """What the system trusts; `SSL_CERT_FILE` names others."""
        return ssl.create_default_context()


def _guarded_backend(guard: AddressGuard, receiver: Receiver) -> "httpcore.AsyncNetworkBackend":
    """Connects to the addresses that were looked at, and to no other that the name may have by then."""
    import httpcore

    class GuardedBackend(httpcore.AsyncNetworkBackend):
        def __init__(self) -> None:
            self._plain = httpcore.AnyIOBackend()

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            failed: Exception | None = None
            for address in await guard.addresses(receiver):
                try:
                    return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failed = error
            raise failed or httpcore.ConnectError(f"{host} has no address")

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return GuardedBackend()


def _seconds(retry_after: bytes) -> float:
    return min(float(retry_after), _LONGEST_WAIT_S) if retry_after.isdigit() else 0.0
