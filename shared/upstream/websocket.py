"""The one way to open a WebSocket to an upstream: certificates verified, sizes bounded, failures typed.

Rules
- Keys are in headers and addresses, so nothing that the library says of a failure is passed on, its debug log is off,
  and no redirect is followed: it would carry our headers to somebody else.
- A proxy comes from the environment (`HTTPS_PROXY`, `NO_PROXY` …), except to this machine itself.
- What is not read waits in the kernel: the library's queue and both its buffers are short. No compression: it costs a
  window of memory per connection and audio does not shrink.
- A close says goodbye at once, waits a moment for the other side, and then cuts the line, also when it is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    SecurityError,
    WebSocketException,
)
from websockets.protocol import State
from websockets.typing import Subprotocol

from shared.upstream.faults import HTTP_CODES, Code, Kind, UpstreamError
from shared.upstream.host import is_here
from shared.upstream.tls import trust

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_QUEUED_FRAMES: Final = 16
WRITE_LIMIT_BYTES: Final = 64 * 1024
CLOSE_S: Final = 0.5
PING_TIMEOUT_S: Final = 10.0

_OUR_VERDICTS: Final = frozenset({1002, 1007, 1009})
"""Close codes that we send when what came was no valid message."""
_KNOWN_CLOSES: Final = frozenset({1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

_LOGGER: Final = logging.getLogger("upstream.websocket")
_LOGGER.setLevel(logging.WARNING)


class UpgradeRefused(UpstreamError):  # noqa: N818 - it says what was done to us
    """What HTTP_CODES says of an answer that is no WebSocket; `date` is the other side's clock, by its header."""

    def __init__(self, known: UpstreamError, date: str) -> None:
        super().__init__(str(known), code=known.code, kind=known.kind, reason=known.reason)
        self.date = date


class Wire:
    """An open connection: `Closable`. Every method raises UpstreamError where the connection fails."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    async def send(self, message: str | bytes) -> None:
        """Waits while the other side takes nothing. Raises UpstreamError `upstream_closed`."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed_error(error) from None

    async def receive(self) -> str | bytes:
        """The next message; one task at a time, and it may be cancelled without loss.

        Raises UpstreamError `upstream_closed` when the other side has ended it, `upstream_malformed` when it sent what
        is no message or more than MAX_MESSAGE_BYTES.
        """
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed_error(error) from None

    async def close(self) -> None:
        """Never raises, and never waits for the other side longer than CLOSE_S."""
        try:
            with suppress(TimeoutError, OSError, WebSocketException):
                async with asyncio.timeout(CLOSE_S):
                    await self._connection.close()
        finally:
            self._connection.transport.abort()


class _Connect(connect):
    """Follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_wire(
    url: str,
    headers: Mapping[str, str],
    *,
    ping_interval_s: float | None = None,
    tls: ssl.SSLContext | None = None,
    subprotocols: Sequence[str] = (),
) -> Wire:
    """Raises UpstreamError: `upstream_connect`, or what HTTP_CODES says of a refused upgrade. The caller's deadline.

    `tls` verifies instead of the common context, for an upstream with its own certificate authority.
    """
    with _failures():
        parts = urlsplit(url)
        connection = await _Connect(
            url,
            additional_headers=_valid(headers),
            ssl=(tls or trust()) if parts.scheme == "wss" else None,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            proxy=None if is_here(parts.hostname or "") else True,
            compression=None,
            open_timeout=None,
            close_timeout=CLOSE_S,
            ping_interval=ping_interval_s,
            ping_timeout=PING_TIMEOUT_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=MAX_QUEUED_FRAMES,
            write_limit=WRITE_LIMIT_BYTES,
            logger=_LOGGER,
        )
    return Wire(connection)


def _valid(headers: Mapping[str, str]) -> Headers:
    """Raises ValueError, for a key with a line break or in letters that no header can hold."""
    try:
        valid = Headers(headers)
        valid.serialize()
    except InvalidHandshake:
        raise ValueError("a header that cannot be sent") from None
    return valid


@contextmanager
def _failures() -> Iterator[None]:
    """Raises everything that can go wrong while connecting as an UpstreamError, without the text that came with it."""
    try:
        yield
    except InvalidStatus as error:
        known = HTTP_CODES.error(error.response.status_code, "it refused the connection")
        raise UpgradeRefused(known, error.response.headers.get("Date", "")) from None
    except ssl.SSLCertVerificationError:
        raise _connect_error("its certificate is not to be trusted", "certificate", Kind.FATAL) from None
    except ssl.SSLError:
        raise _connect_error("no TLS connection came about", "tls") from None
    except socket.gaierror:
        raise _connect_error("its host's name has no address", "name") from None
    except TimeoutError:
        raise UpstreamError("it did not answer in time", code=Code.CONNECT_TIMEOUT) from None
    except OSError:
        raise _connect_error("it cannot be reached", "network") from None
    except (ProxyError, InvalidProxy, ImportError):
        raise _connect_error("the proxy does not let us through", "proxy") from None
    except (InvalidURI, SecurityError, ValueError):
        raise UpstreamError("its address or key cannot be used", code=Code.REFUSED, kind=Kind.FATAL) from None
    except InvalidHandshake:
        raise _connect_error("what answers there is no WebSocket server", "handshake") from None


def _connect_error(message: str, reason: str, kind: Kind = Kind.RETRYABLE) -> UpstreamError:
    return UpstreamError(message, code=Code.CONNECT, kind=kind, reason=reason)


def _closed_error(error: ConnectionClosed) -> UpstreamError:
    if error.sent is not None and not error.rcvd_then_sent and error.sent.code in _OUR_VERDICTS:
        return UpstreamError("it sent what is no message", code=Code.MALFORMED, reason=str(error.sent.code))
    code = error.rcvd.code if error.rcvd is not None else 1006
    reason = str(int(code)) if code in _KNOWN_CLOSES else "other"
    return UpstreamError("it has closed the connection", code=Code.CLOSED, reason=reason)
