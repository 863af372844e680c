"""The baseline of the router: a bare websockets echo under the same paced load, in the same run.

    python -m bench.echo --devices 20 --seconds 20

Prints the CPU time that the echo server spends per frame pair (one in, one out). Few frames a second cost more each
than many: every one wakes the process up. So compare at the number of devices that the router has.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

FRAME_S = 0.06
PACKET = bytes(80)
"""As large as a device's Opus packet."""


def echo_server(pipe: Connection) -> None:
    """A process of its own: tells its port, echoes until told to stop, then tells its CPU time."""
    uvloop.run(_echo(pipe))


async def _echo(pipe: Connection) -> None:
    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        before = _cpu_s()
        await stop.wait()
        pipe.send(_cpu_s() - before)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def load(port: int, devices: int, seconds: float) -> int:
    """Frame pairs echoed."""
    pairs = 0

    async def one(number: int) -> None:
        nonlocal pairs
        await asyncio.sleep(FRAME_S * number / devices)
        async with connect(f"ws://127.0.0.1:{port}", compression=None, ping_interval=None) as connection:
            began_s = time.monotonic()
            for count in range(1, int(seconds / FRAME_S) + 1):
                await connection.send(PACKET)
                await connection.recv()
                pairs += 1
                await asyncio.sleep(max(0.0, began_s + count * FRAME_S - time.monotonic()))

    await asyncio.gather(*(one(number) for number in range(devices)))
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.echo", description="A bare WebSocket echo, paced.")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args(arguments)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=echo_server, args=(theirs,))
    server.start()
    pairs = uvloop.run(load(ours.recv(), args.devices, args.seconds))
    ours.send("stop")
    cpu_s = ours.recv()
    server.join()
    print(f"{args.devices} connections, {pairs} frame pairs: {cpu_s / pairs * 1e6:.0f} µs CPU a pair")
    return 0


if __name__ == "__main__":
    sys.exit(main())
