"""HTTP to an upstream: certificates, proxies, redirects, kept connections, and how failures are told."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from shared.process.probes import RESOLVER_THREADS
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.http import HttpConnections

pytestmark = pytest.mark.contract

HOST = "127.0.0.1"
AMPLE_S = 30.0
SECRET = "sk-canary"
HEADERS = {"Authorization": f"Bearer {SECRET}"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def echo(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read(), headers={"X-Seen": request.headers.get("Authorization", "")})


@asynccontextmanager
async def server(handler: Handler = echo, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its address."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://{HOST}:{runner.addresses[0][1]}/path?key={SECRET}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connections(*, tls: ssl.SSLContext | None = None, keep_s: float = 5.0) -> AsyncIterator[HttpConnections]:
    http = HttpConnections("TTS.Test", connect_s=AMPLE_S, keep_s=keep_s, tls=tls)
    async with asyncio.timeout(AMPLE_S):
        try:
            yield http
        finally:
            await http.close()


async def posted(http: HttpConnections, url: str) -> bytes:
    answer = await http.post(url, headers=HEADERS, json={"a": 1})
    body = b""
    while piece := await answer.piece():
        body += piece
    answer.close()
    return body


async def failure_of(url: str, *, tls: ssl.SSLContext | None = None) -> UpstreamError:
    async with connections(tls=tls) as http:
        with pytest.raises(UpstreamError) as failure:
            await posted(http, url)
    assert SECRET not in repr(failure.value) + str(failure.value)
    assert failure.value.__suppress_context__ or failure.value.__context__ is None
    return failure.value


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_what_is_sent_arrives_and_its_answer_is_read_to_the_end() -> None:
    """Body and headers."""
    async with server() as url, connections() as http:
        assert await posted(http, url) == b'{"a": 1}'


async def test_an_untrusted_certificate_is_fatal(authority: trustme.CA) -> None:
    """Nothing is sent, whoever signed it."""
    async with server(tls=serving(authority)) as url:
        error = await failure_of(url)
    assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.FATAL, "certificate")


async def test_an_authority_of_ones_own_can_be_trusted(authority: trustme.CA) -> None:
    """By a context, as in SSL_CERT_FILE."""
    async with server(tls=serving(authority)) as url, connections(tls=trusting(authority)) as http:
        assert await posted(http, url) == b'{"a": 1}'


async def test_no_tls_where_tls_is_asked_for_is_a_typed_error() -> None:
    """A plain server behind https://."""
    async with server() as url:
        error = await failure_of(url.replace("http://", "https://"))
    assert (error.code, error.reason) == (Code.CONNECT, "tls")


async def test_a_redirect_is_not_followed() -> None:
    """It would carry the key elsewhere."""
    seen = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/stolen"})

    async with server(elsewhere) as url:
        error = await failure_of(url)
    assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)
    assert seen == ["/path"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, Code.INPUT, Kind.INPUT),
        (401, Code.AUTH, Kind.FATAL),
        (404, Code.REFUSED, Kind.FATAL),
        (429, Code.QUOTA, Kind.QUOTA),
        (503, Code.FAILED, Kind.RETRYABLE),
    ],
)
async def test_a_status_says_what_follows(status: int, code: str, kind: Kind) -> None:
    """What the server wrote beside it is not repeated."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=f"the key {SECRET} was refused")

    async with server(refuse) as url:
        error = await failure_of(url)
    assert (error.code, error.kind) == (code, kind)


async def test_a_host_without_address_is_a_typed_error() -> None:
    """The names under .invalid have none, for ever (RFC 2606)."""
    error = await failure_of("http://nowhere.invalid/")
    assert error.code in (Code.CONNECT, Code.CLOSED)
    assert error.kind is Kind.RETRYABLE


async def test_an_address_that_is_none_is_fatal() -> None:
    """Somebody must mend it."""
    error = await failure_of("http://:0:0/")
    assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)


async def test_the_environments_proxy_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is told the whole address; what is here is asked directly."""
    seen = []

    async def proxy(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.Response(text="by proxy")

    async with server(proxy) as proxy_url, server() as url, connections() as http:
        monkeypatch.setenv("http_proxy", proxy_url.partition("/path")[0])
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await posted(http, "http://speech.example/v1") == b"by proxy"
        assert seen == ["http://speech.example/v1"]
        assert await posted(http, url) == b'{"a": 1}'
        assert len(seen) == 1


async def test_the_password_file_of_the_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server without a key is sent none that somebody keeps for other programs."""
    (tmp_path / "netrc").write_text(f"machine {HOST} login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    headers: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        headers.append(request.headers.get("Authorization"))
        return web.Response()

    async with server(handler) as url, connections() as http:
        (await http.post(url, headers={}, json={})).close()
    assert headers == [None]


COUNTED = """
import asyncio, uvloop
from shared.process.probes import thread_count
from shared.upstream.faults import UpstreamError
from shared.upstream.http import HttpConnections

async def main():
    before = thread_count()
    http = HttpConnections("Test", connect_s=5, keep_s=0)
    try:
        await http.get("http://127.0.0.1:1/", headers={})
    except UpstreamError as error:
        assert error.code == "upstream_connect", error.code
    await http.close()
    print(thread_count() - before)

uvloop.run(main())
"""


def test_the_threads_that_it_costs_are_in_the_budget() -> None:
    """Of a process of its own: a numeric address, too, may start the resolver's threads, and then that is known."""
    ran = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, timeout=60, check=True)
    assert int(ran.stdout) <= (RESOLVER_THREADS if HttpConnections.resolves_names else 0)
