"""Reads a page of another process of this cluster.

Not with aiohttp's client: under uvloop it connects with `sock_connect`, which resolves even a numeric address on four
libuv threads; `create_connection` does not. One request on one connection, without keep-alive, is all that is needed.
"""

from __future__ import annotations

import asyncio

MAX_PAGE_BYTES = 4 * 1024 * 1024
_END_OF_HEAD = b"\r\n\r\n"


async def get_page(host: str, port: int, path: str, *, timeout_s: float) -> str | None:
    """The body of a 200 answer; None for anything else, in time or not. `host` is an IP address."""
    try:
        async with asyncio.timeout(timeout_s):
            return body_of(await _exchange(host, port, path))
    except (OSError, TimeoutError, ValueError):
        return None


async def _exchange(host: str, port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        chunks: list[bytes] = []
        while (chunk := await reader.read(65536)) and sum(map(len, chunks)) < MAX_PAGE_BYTES:
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        writer.close()


def body_of(answer: bytes) -> str | None:
    """Raises ValueError if the body is no UTF-8."""
    head, found, body = answer.partition(_END_OF_HEAD)
    status_line = head.split(b"\r\n", 1)[0].split()
    return body.decode() if found and status_line[1:2] == [b"200"] else None
