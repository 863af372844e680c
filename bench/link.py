"""Round trips of the link: switchboard → echo worker process → switchboard, with real stream fences on both ends.

`python -m bench.link [--streams 50] [--seconds 5] [--curve PORT]` prints, first, latency of frames paced as devices
pace them (one each 60 ms a stream), then the rate with 64 frames always under way, and the CPU of the router's end per
round trip. `--curve` does the same again over tcp://127.0.0.1:PORT with CURVE, by turns, three times each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from ops.keys import KeyRing
from router.pools.stream_ref import StreamRef
from router.pools.switchboard import Switchboard
from shared.ids import Role
from shared.link.endpoints import Binding
from shared.link.keys import MACHINES, WORKER_KEY, RouterKeys, load_router_keys
from shared.link.messages import Body, Done
from shared.link.tcp_address import parse_tcp_address
from shared.settings import router_endpoint

FRAME_S = 0.06
FRAME = b"x" * 192
IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class NoWish(Body):
    """The echo service's OPEN has defaults for everything."""


@dataclass
class Clocked:
    """Times each frame's way there and back; frames of a stream return in order."""

    latencies_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    received: int = 0
    is_flooding: bool = False
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def on_opened(self, ref: StreamRef) -> None:
        self.opened.set()

    def on_event(self, ref: StreamRef, body: dict[str, Any]) -> None: ...

    def on_credit(self, ref: StreamRef, body: dict[str, Any]) -> None: ...

    def on_done(self, ref: StreamRef, done: Done) -> None: ...

    def on_lost(self, ref: StreamRef, cause: str, retryable: bool) -> None:
        self.opened.set()  # what was lost is seen in the report

    def on_audio(self, ref: StreamRef, packet: bytes) -> None:
        self.latencies_s.append(time.perf_counter() - self.sent_s[self.received])
        self.received += 1
        if self.is_flooding:
            self.send(ref)

    def send(self, ref: StreamRef) -> None:
        self.sent_s.append(time.perf_counter())
        ref.send_audio(FRAME)


async def paced(refs: list[tuple[StreamRef, Clocked]], seconds: float) -> float:
    """Streams take turns within each frame time. Returns CPU seconds of this process."""
    loop = asyncio.get_running_loop()
    began_s, cpu_s = loop.time(), time.process_time()
    for tick in range(int(seconds / FRAME_S)):
        for n, (ref, owner) in enumerate(refs):
            delay_s = began_s + (tick + n / len(refs)) * FRAME_S - loop.time()
            if delay_s > 0.001:
                await asyncio.sleep(delay_s)
            owner.send(ref)
    await asyncio.sleep(0.2)
    return time.process_time() - cpu_s


async def flooded(refs: list[tuple[StreamRef, Clocked]], seconds: float) -> float:
    cpu_s = time.process_time()
    for n in range(IN_FLIGHT):
        ref, owner = refs[n % len(refs)]
        owner.is_flooding = True
        owner.send(ref)
    await asyncio.sleep(seconds)
    for _, owner in refs:
        owner.is_flooding = False
    spent_s = time.process_time() - cpu_s
    await asyncio.sleep(0.2)
    return spent_s


def report(title: str, owners: list[Clocked], cpu_s: float, seconds: float) -> None:
    times_ms = sorted(1000 * one for owner in owners for one in owner.latencies_s)
    sent = sum(len(owner.sent_s) for owner in owners)
    if not times_ms:
        sys.exit("no frame came back")
    p50, p99 = statistics.median(times_ms), times_ms[int(len(times_ms) * 0.99)]
    print(
        f"{title}: {len(times_ms) / seconds:,.0f} round trips/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"max {times_ms[-1]:.1f} ms, router CPU {1e6 * cpu_s / len(times_ms):.1f} us each, lost {sent - len(times_ms)}"
    )


async def measure(binding: Binding, load_keys: Callable[[], RouterKeys] | None, streams: int, seconds: float) -> None:
    board = Switchboard({Role.TTS: binding}, load_keys=load_keys)
    await board.start()
    transport = "ipc" if binding.remote is None else "tcp+CURVE"
    for title, load in (("paced", paced), ("flooded", flooded)):
        owners = [Clocked() for _ in range(streams)]
        refs = [(board.open(owner, Role.TTS, NoWish(), wait_s=30.0), owner) for owner in owners]
        for owner in owners:
            await owner.opened.wait()
        report(f"{transport} {title}", owners, await load(refs, seconds), seconds)
        for ref, _ in refs:
            ref.abort("measured")
    await board.close()


def make_keys(data_dir: Path) -> None:
    """Router and worker share this directory, as no two machines would."""
    ring = KeyRing(data_dir)
    ring.init()
    ring.add("bench")
    (ring.directory / MACHINES / "bench" / WORKER_KEY).rename(ring.directory / WORKER_KEY)


def run(directory: Path, port: int, arguments: argparse.Namespace) -> None:
    """One transport: over ipc:// if `port` is 0."""
    router = f"tcp://127.0.0.1:{port}"
    remote = str(parse_tcp_address(router).of_role(Role.TTS)) if port else None
    binding = Binding(router_endpoint(directory, 0, "tts"), remote)
    # The echo service is the tests' own: it is started as a process, not imported.
    words = [str(directory), "0", str(arguments.metrics_port), str(arguments.streams)]
    command = [sys.executable, "-m", "tests.fakes.echo_service", *words, *([router, str(directory)] if port else [])]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    load_keys = partial(load_router_keys, directory) if port else None
    try:
        uvloop.run(measure(binding, load_keys, arguments.streams, arguments.seconds))
    finally:
        worker.terminate()
        worker.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--metrics-port", type=int, default=29_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--curve", type=int, default=0, metavar="PORT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xz") as name:
        if arguments.curve:
            make_keys(Path(name))
        for port in [0, arguments.curve] * 3 if arguments.curve else [0]:
            run(Path(name), port, arguments)


if __name__ == "__main__":
    main()
