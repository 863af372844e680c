"""The WebSocket to an upstream, against real servers that do everything wrong."""

from __future__ import annotations

import asyncio
import http
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from shared.upstream.deadlines import Deadlines, Waits
from shared.upstream.faults import Code, Kind, UpstreamError
from shared.upstream.tls import trust
from shared.upstream.websocket import MAX_MESSAGE_BYTES, Wire, open_wire

pytestmark = pytest.mark.contract

HOST = "127.0.0.1"
AMPLE_S = 30.0
FLOOD_BYTES = 32 * 1024 * 1024
SECRET = "sk-canary"

Talk = Callable[[ServerConnection], Awaitable[None]]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def server(
    talk: Talk = echo, *, status: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Its address. `status` refuses every upgrade."""

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if status is None:
            return None
        response = connection.respond(http.HTTPStatus(status), "no")
        response.headers["Location"] = "/elsewhere"
        return response

    async with serve(talk, HOST, 0, process_request=answer, ssl=tls, max_size=None, close_timeout=0.2) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://{HOST}:{port}/path?key={SECRET}"


@asynccontextmanager
async def wire_to(url: str, **options: ssl.SSLContext) -> AsyncIterator[Wire]:
    async with asyncio.timeout(AMPLE_S):
        wire = await open_wire(url, {"Authorization": SECRET}, **options)
        try:
            yield wire
        finally:
            await wire.close()


async def failure_of(url: str, **options: ssl.SSLContext) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        async with wire_to(url, **options):
            pass
    assert SECRET not in repr(failure.value) + str(failure.value)
    assert failure.value.__suppress_context__
    return failure.value


async def test_text_and_bytes_go_both_ways() -> None:
    """What is sent as text comes as text; headers and address reach the server."""
    seen = asyncio.get_running_loop().create_future()

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.set_result((connection.request.path, connection.request.headers["Authorization"]))
        await echo(connection)

    async with server(talk) as url, wire_to(url) as wire:
        await wire.send("你好")
        await wire.send(b"\x00\xff")
        assert [await wire.receive(), await wire.receive()] == ["你好", b"\x00\xff"]
        assert wire.is_open
    assert await seen == (f"/path?key={SECRET}", SECRET)
    assert not wire.is_open


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, Code.AUTH, Kind.FATAL),
        (429, Code.QUOTA, Kind.QUOTA),
        (500, Code.FAILED, Kind.RETRYABLE),
        (302, Code.REFUSED, Kind.FATAL),
    ],
)
async def test_a_refused_upgrade_says_why(status: int, code: str, kind: Kind) -> None:
    """By the meaning of the HTTP status. A redirect is not followed: it would carry the key elsewhere."""
    async with server(status=status) as url:
        error = await failure_of(url)
    assert (error.code, error.kind, error.reason) == (code, kind, str(status))


async def test_nobody_there(free_port: int) -> None:
    """It may come back in a moment."""
    error = await failure_of(f"ws://{HOST}:{free_port}/")
    assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.RETRYABLE, "network")


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "no address", "ws://127.0.0.1:port/"])
async def test_an_address_that_is_none(url: str) -> None:
    """Only the operator can mend it, and it is not repeated, since it may hold a key."""
    error = await failure_of(url)
    assert (error.code, error.kind) == (Code.REFUSED, Kind.FATAL)


@pytest.mark.parametrize("key", ["two\nlines", "你的密钥"])
async def test_a_key_that_no_header_can_hold(key: str) -> None:
    """Fatal, and not repeated either."""
    async with server() as url:
        with pytest.raises(UpstreamError) as failure:
            await open_wire(url, {"Authorization": key})
    assert (failure.value.code, failure.value.kind) == (Code.REFUSED, Kind.FATAL)
    assert key not in str(failure.value)


async def test_a_server_that_accepts_and_says_nothing() -> None:
    """The caller's deadline ends it, as the connection's, and the socket is closed."""
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(mute, HOST, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamError) as failure:
            async with Waits(Deadlines(connect_s=0.2)).connecting():
                await open_wire(f"ws://{HOST}:{port}/", {})
        assert failure.value.code == Code.CONNECT_TIMEOUT
        await asyncio.wait_for(gone.wait(), AMPLE_S)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
async def test_a_server_that_speaks_something_else(answer: bytes) -> None:
    """It fails at once with a code, whatever came."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(other, HOST, 0) as listening:
        error = await failure_of(f"ws://{HOST}:{listening.sockets[0].getsockname()[1]}/")
    assert error.code in (Code.CONNECT, Code.FAILED)


@pytest.mark.parametrize("close_code", [1000, 1011, 4999])
async def test_the_other_side_closes(close_code: int) -> None:
    """What was sent before is received; then `upstream_closed`, with a code that is one of a known few."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(close_code, f"because of {SECRET}")

    async with server(talk) as url, wire_to(url) as wire:
        assert await wire.receive() == "last words"
        with pytest.raises(UpstreamError) as failure:
            await wire.receive()
        assert (failure.value.code, failure.value.kind) == (Code.CLOSED, Kind.RETRYABLE)
        assert failure.value.reason == (str(close_code) if close_code < 4000 else "other")
        assert SECRET not in str(failure.value)
        assert not wire.is_open
        with pytest.raises(UpstreamError):
            await wire.send("anybody?")


async def test_the_line_is_cut_in_the_middle_of_a_message() -> None:
    """Half a message is no message."""

    async def talk(connection: ServerConnection) -> None:
        connection.transport.write(b"\x81\x7e\x10\x00half")
        connection.transport.close()

    async with server(talk) as url, wire_to(url) as wire:
        with pytest.raises(UpstreamError) as failure:
            await wire.receive()
        assert (failure.value.code, failure.value.reason) == (Code.CLOSED, "1006")


@pytest.mark.parametrize("kind", ["too long", "no frame", "no text"])
async def test_what_is_no_message_ends_the_connection(kind: str) -> None:
    """A message beyond the bound, bytes that are no frame, text that is no UTF-8: `upstream_malformed`."""

    async def talk(connection: ServerConnection) -> None:
        match kind:
            case "too long":
                await connection.send(bytes(MAX_MESSAGE_BYTES + 1))
            case "no frame":
                connection.transport.write(b"\xff" * 100)
            case "no text":
                connection.transport.write(b"\x81\x02\xff\xff")
        await connection.wait_closed()

    async with server(talk) as url, wire_to(url) as wire:
        with pytest.raises(UpstreamError) as failure:
            await wire.receive()
        assert failure.value.code == Code.MALFORMED


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, host: str = HOST) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


async def test_an_untrusted_certificate_is_fatal(authority: trustme.CA) -> None:
    """No key goes to somebody who cannot show who they are, and asking again does not help."""
    async with server(tls=serving(authority)) as url:
        error = await failure_of(url)
    assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.FATAL, "certificate")


async def test_a_certificate_of_somebody_else_is_fatal(authority: trustme.CA) -> None:
    """The name is checked, not only the signature."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with server(tls=serving(authority, "other.example")) as url:
        error = await failure_of(url, tls=trusting)
    assert (error.code, error.kind, error.reason) == (Code.CONNECT, Kind.FATAL, "certificate")


async def test_ssl_cert_file_names_whom_to_trust(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's own authority, without a key of ours."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    trust.cache_clear()
    try:
        async with server(tls=serving(authority)) as url, wire_to(url) as wire:
            await wire.send("over TLS")
            assert await wire.receive() == "over TLS"
    finally:
        trust.cache_clear()


async def test_no_tls_where_tls_is_asked_for() -> None:
    """A plain server behind a wss:// address."""
    async with server() as url:
        error = await failure_of(url.replace("ws://", "wss://"))
    assert error.code == Code.CONNECT


async def deaf(connection: ServerConnection) -> None:
    """Reads nothing, so that it does not even see a goodbye."""
    connection.transport.pause_reading()
    await connection.wait_closed()


async def test_a_close_does_not_wait_for_who_does_not_answer() -> None:
    """Neither for its goodbye nor for it to read what waits in the buffers; nobody who sends hangs on."""
    async with server(deaf) as url:
        wire = await open_wire(url, {})
        sending = asyncio.create_task(wire.send(bytes(FLOOD_BYTES)), name="sends")
        await asyncio.sleep(0)
        assert wire._connection.transport.get_write_buffer_size() > 0
        async with asyncio.timeout(AMPLE_S):
            await wire.close()
            await asyncio.wait([sending])
            await wire._connection.wait_closed()


async def test_a_close_that_is_cancelled_cuts_the_line() -> None:
    """Whoever interrupts twice leaves nothing open either."""
    async with server(deaf) as url:
        wire = await open_wire(url, {})
        closing = asyncio.create_task(wire.close(), name="closes")
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        await asyncio.wait_for(wire._connection.wait_closed(), AMPLE_S)


async def test_closing_twice_is_closing_once() -> None:
    """Nor does it matter that the other side was first."""
    async with server(lambda connection: connection.close()) as url, wire_to(url) as wire:
        with pytest.raises(UpstreamError):
            await wire.receive()
        await wire.close()
        await wire.close()


async def test_what_is_not_read_waits_outside() -> None:
    """A flood fills no memory here: the server cannot send more than the buffers between us hold."""
    sent = 0
    stands_still = asyncio.Event()

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        try:
            while True:
                async with asyncio.timeout(1.0):
                    await connection.send(bytes(64 * 1024))
                sent += 1
        except TimeoutError:
            stands_still.set()
            connection.transport.abort()

    async with server(flood) as url, wire_to(url):
        await asyncio.wait_for(stands_still.wait(), AMPLE_S)
    assert sent * 64 * 1024 < FLOOD_BYTES


async def test_the_library_logs_no_key_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    """Its debug log would hold headers and address."""
    logging.getLogger("upstream").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG):
        async with server() as url, wire_to(url) as wire:
            await wire.send("hello")
            await wire.receive()
        logging.getLogger("anybody").debug("the log works")
    records = [record for record in caplog.records if record.name != "websockets.server"]
    assert [record.message for record in records if record.name == "anybody"] == ["the log works"]
    assert not any(SECRET in record.getMessage() for record in records)


async def test_no_proxy_stands_between_us_and_this_machine(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    """A proxy that is set for the world cannot know what runs here."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with server() as url, wire_to(url) as wire:
        await wire.send("hello")
        assert await wire.receive() == "hello"


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the way out leads through one, it is asked to connect us."""
    asked = asyncio.get_running_loop().create_future()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(proxy, HOST, 0) as listening:
        monkeypatch.setenv("https_proxy", f"http://{HOST}:{listening.sockets[0].getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        error = await failure_of("wss://upstream.invalid/")
    assert (await asked).startswith(b"CONNECT upstream.invalid:443 ")
    assert (error.code, error.reason) == (Code.CONNECT, "proxy")
