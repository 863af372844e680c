"""The one way to ask an upstream over HTTP: certificates verified, connections kept, failures typed.

Rules
- Keys are in headers and addresses, so nothing that the library says of a failure is passed on, and no redirect is
  followed: it would carry our headers to somebody else.
- A proxy comes from the environment (`HTTPS_PROXY`, `NO_PROXY` …), except to this machine itself. The environment's
  .netrc is left alone: reading it blocks, and its passwords are not ours to send.
- Numeric addresses pass through the loop's resolver too (uvloop's `sock_connect`, by which the library connects), so a
  process that asks over HTTP has its threads: `resolves_names`.
- Deadlines are the caller's, but for the connection's: the library alone knows when it is there.
- An answer that is closed before its end takes its connection with it; one that was read to its end leaves it behind.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp

from shared.upstream import metrics
from shared.upstream.faults import HTTP_CODES, Code, Kind, UpstreamError
from shared.upstream.host import is_here
from shared.upstream.tls import trust

DNS_CACHE_S: Final = 60
_GOOD: Final = range(200, 300)


class Answer:
    """What came back, its body still on its way."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def content_type(self) -> str:
        return self._response.headers.get("Content-Type", "")

    async def piece(self) -> bytes:
        """What has come since the last one, at least a byte; b"" at the end. Raises UpstreamError."""
        with _failures():
            return await self._response.content.readany()

    def close(self) -> None:
        """At once; never raises."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class HttpConnections:
    """Of one upstream in one process. Made anywhere; all else is the event loop's."""

    resolves_names: Final = True
    """Whatever the address: what belongs into the budget of the process's threads."""

    def __init__(self, name: str, *, connect_s: float, keep_s: float, tls: ssl.SSLContext | None = None) -> None:
        """`name` is the upstream's, for its metrics. `tls` verifies instead of the common context."""
        self._name = name
        self._connect_s = connect_s
        self._keep_s = keep_s
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, *, headers: Mapping[str, str], **body: Any) -> Answer:
        """`body` is `json` or `data`, as the library has them. Returns with the answer's head.

        Raises UpstreamError: what HTTP_CODES says of any status but 2xx, or how the connection failed.
        """
        return await self._ask("POST", url, headers, **body)

    async def get(self, url: str, *, headers: Mapping[str, str]) -> Answer:
        """As `post`."""
        return await self._ask("GET", url, headers)

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], **body: Any) -> Answer:
        with _failures():
            response = await self._opened().request(
                method, url, headers=dict(headers), proxy=proxy_of(url), allow_redirects=False, **body
            )
        if response.status not in _GOOD:
            response.close()
            raise HTTP_CODES.error(response.status, "it refused the request")
        return Answer(response)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=self._keep_s or None,
                force_close=not self._keep_s,
                ssl=self._tls or trust(),
                ttl_dns_cache=DNS_CACHE_S,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s),
                trace_configs=[_counting(self._name)],
            )
        return self._session


def proxy_of(url: str) -> str | None:
    """What the environment says of an address."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    if is_here(host) or proxy_bypass_environment(host, proxies):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _counting(name: str) -> aiohttp.TraceConfig:
    async def on_connected(*_: object) -> None:
        metrics.CONNECTS.labels(name).inc()

    async def on_reused(*_: object) -> None:
        metrics.REUSES.labels(name).inc()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(on_connected)
    trace.on_connection_reuseconn.append(on_reused)
    return trace


@contextmanager
def _failures() -> Iterator[None]:
    """Raises everything that the library raises as an UpstreamError, without the text that came with it."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise UpstreamError("no connection came about in time", code=Code.CONNECT_TIMEOUT) from None
    except aiohttp.ClientConnectorCertificateError:
        raise _connect_error("its certificate is not to be trusted", "certificate", Kind.FATAL) from None
    except aiohttp.ClientSSLError:
        raise _connect_error("no TLS connection came about", "tls") from None
    except aiohttp.ClientConnectorDNSError:
        raise _connect_error("its host's name has no address", "name") from None
    except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError):
        raise _connect_error("the proxy does not let us through", "proxy") from None
    except aiohttp.ClientConnectorError:
        raise _connect_error("it cannot be reached", "network") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
        raise UpstreamError("it has closed the connection", code=Code.CLOSED) from None
    except aiohttp.InvalidURL:
        raise UpstreamError("its address cannot be used", code=Code.REFUSED, kind=Kind.FATAL) from None
    except aiohttp.ClientError:
        raise UpstreamError("what answers there is no HTTP server", code=Code.MALFORMED) from None


def _connect_error(message: str, reason: str, kind: Kind = Kind.RETRYABLE) -> UpstreamError:
    return UpstreamError(message, code=Code.CONNECT, kind=kind, reason=reason)
