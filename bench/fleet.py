"""Many simulated devices at once: each takes turn after turn, and what they felt is added up.

    python -m bench.fleet --devices 20 --mode manual --seconds 60 --run-dir run --stages-ms 100

Point it at a cluster that runs with bench/fleet.config.yaml (scripted engines). The devices share one process, one
event loop and the same encoded speech, nothing is encoded or decoded while they talk; the loop's own lag is reported
beside the results, which are no more exact than that. Devices start over `--ramp` seconds; only what begins after
the ramp is counted, CPU time too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import uvloop

from bench import processes
from bench.lag import LagProbe
from bench.report import show
from bench.tally import Tally, spread
from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import DeviceError, Enrolment, Identity, enrol, simulated_mac
from ops.device.opus import MIC_RATE, Speech, encode_speech, silence
from ops.device.speech import Voice
from ops.local import ota_url
from shared.listening import Mode

SPOKEN = "Could you please tell me what the weather will be like tomorrow morning"
RECONNECT_S = 1.0
GOING_AWAY = "closed_1001"
LET_GO_S = 0.5
"""A turn that began so short a time before the router let the device go was begun between the two: the device could not
know yet. It connects again at once and says it there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fleet does."""

    devices: int
    modes: tuple[Mode, ...]
    """Device n uses mode n modulo their number."""
    seconds: float
    ramp_s: float
    pause_s: float
    """Between two turns of a device."""
    abort_every: int
    """Every n-th turn of a device is interrupted; 0 = none."""
    abort_after_s: float
    answer_timeout_s: float
    url: str | None
    ota_url: str | None
    seed: str


class Fleet:
    """Owns the devices' tasks."""

    def __init__(self, plan: Plan, speech: Speech, quiet: Sequence[bytes], tally: Tally) -> None:
        self.plan = plan
        self.tally = tally
        self.counts_from_s = 0.0
        self._speech = speech
        self._quiet = quiet
        self._ends_s = 0.0
        self._sessions: dict[int, str] = {}

    @property
    def connected(self) -> int:
        return len(self._sessions)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.counts_from_s = loop.time() + self.plan.ramp_s
        self._ends_s = self.counts_from_s + self.plan.seconds
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            for number in range(self.plan.devices):
                group.create_task(self._live(number, http), name=f"fleet-device-{number}")

    async def _live(self, number: int, http: aiohttp.ClientSession) -> None:
        """One device until the end: connected again whenever it has lost its server."""
        plan, loop = self.plan, asyncio.get_running_loop()
        await asyncio.sleep(plan.ramp_s * number / plan.devices)
        identity = Identity(simulated_mac(plan.seed, number))
        while loop.time() < self._ends_s:
            began_s = loop.time()
            try:
                place = await self._place(http, identity)
                await self._talk(number, identity, place)
            except DeviceError as error:
                if loop.time() >= self.counts_from_s:
                    self.tally.fail(error.code, str(error))
                await asyncio.sleep(max(0.0, began_s + RECONNECT_S - loop.time()))

    async def _place(self, http: aiohttp.ClientSession, identity: Identity) -> Enrolment:
        if self.plan.ota_url is None:
            return Enrolment(self.plan.url or "")
        place = await enrol(http, self.plan.ota_url, identity)
        return Enrolment(self.plan.url or place.url, place.token)

    async def _talk(self, number: int, identity: Identity, place: Enrolment) -> None:
        plan = self.plan
        options = DeviceOptions(identity, plan.modes[number % len(plan.modes)], answer_timeout_s=plan.answer_timeout_s)
        async with Device(options, self._quiet) as device:
            try:
                await device.open(place.url, place.token)
                self._sessions[number] = device.session
                await self._turns(device)
            finally:
                self._sessions.pop(number, None)
                self.tally.faults.update(device.faults)

    async def _turns(self, device: Device) -> None:
        plan, loop = self.plan, asyncio.get_running_loop()
        turn = 0
        while (began_s := loop.time()) < self._ends_s:
            turn += 1
            is_aborted = plan.abort_every > 0 and turn % plan.abort_every == 0
            try:
                report = await device.ask(self._speech, abort_after_s=plan.abort_after_s if is_aborted else None)
            except DeviceError as error:
                if error.code == GOING_AWAY and loop.time() - began_s < LET_GO_S:
                    self.tally.let_go += 1
                    return
                raise
            if began_s >= self.counts_from_s:
                self.tally.add(report, self._sessions.values())
            await asyncio.sleep(plan.pause_s)


async def measure(fleet: Fleet, pids: Sequence[int]) -> dict[str, Any]:
    """Run the fleet; the whole report."""
    probe, plan = LagProbe(), fleet.plan
    running = asyncio.create_task(fleet.run(), name="fleet")
    await asyncio.sleep(plan.ramp_s)
    before, own_s, clock_s = processes.read_all(pids), time.process_time(), time.monotonic()
    probe.start()
    await asyncio.sleep(plan.seconds)
    probe.stop()
    after, minutes = processes.read_all(pids), (time.monotonic() - clock_s) / 60
    own_s = time.process_time() - own_s
    connected = fleet.connected
    await running
    used = processes.costs(before, after)
    device_minutes = plan.devices * minutes
    return {
        "devices": plan.devices,
        "connected_at_end": connected,
        "modes": list(plan.modes),
        "seconds": plan.seconds,
        **fleet.tally.to_json(),
        "fleet": {
            "loop_lag_ms": spread(probe.lags_ms),
            "cpu_s_per_device_minute": round(own_s / device_minutes, 4),
        },
        "server": {
            "cpu_s_per_device_minute": round(sum(cost.cpu_s for cost in used) / device_minutes, 4) if used else None,
            "memory_kib": sum(cost.memory_kib for cost in used),
            "processes": [cost.to_json() for cost in used],
            "died": sorted(before[pid].name for pid in before.keys() - after.keys()),
        },
    }


def three_seconds(text: str, seconds: float) -> Speech:
    """A real voice, so that the server's voice detection fires, cut or filled up to a length."""
    pcm = Voice().say(text)
    samples = int(seconds * MIC_RATE)
    return encode_speech(np.pad(pcm, (0, max(0, samples - len(pcm))))[:samples])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--mode", choices=("manual", "auto", "realtime", "mixed"), default="manual")
    parser.add_argument("--seconds", type=float, default=60.0, help="counted time, after the ramp")
    parser.add_argument("--ramp", type=float, default=5.0, help="seconds over which the devices start")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two turns of a device")
    parser.add_argument("--speech", type=float, default=3.0, help="seconds spoken a turn")
    parser.add_argument("--abort-every", type=int, default=0, metavar="N", help="interrupt every N-th turn")
    parser.add_argument("--abort-after", type=float, default=0.5, metavar="S", help="so long after its first sound")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds without a word from the server")
    parser.add_argument("--stages-ms", type=float, default=0.0, help="the scripted engines' own times, added up")
    parser.add_argument("--no-markers", action="store_true", help="answers do not hold the session's id")
    parser.add_argument("--url", help="WebSocket address (default: the OTA answer's)")
    parser.add_argument("--ota", help="OTA address (default: of the local cluster; none if --url is given)")
    parser.add_argument("--seed", default="fleet", help="other device ids")
    parser.add_argument("--pids", help="server processes to watch, separated by commas")
    parser.add_argument("--run-dir", type=Path, help="watch the cluster of this run directory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report; - is standard output")
    return parser


def plan_of(args: argparse.Namespace) -> Plan:
    modes: tuple[Mode, ...] = ("manual", "auto") if args.mode == "mixed" else (args.mode,)
    return Plan(
        devices=args.devices,
        modes=modes,
        seconds=args.seconds,
        ramp_s=args.ramp,
        pause_s=args.pause,
        abort_every=args.abort_every,
        abort_after_s=args.abort_after,
        answer_timeout_s=args.timeout,
        url=args.url,
        ota_url=args.ota or (None if args.url else ota_url()),
        seed=args.seed,
    )


def watched_pids(args: argparse.Namespace) -> list[int]:
    if args.pids:
        return [int(pid) for pid in args.pids.split(",")]
    return processes.cluster_pids(args.run_dir) if args.run_dir else []


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every turn was right."""
    args = make_parser().parse_args(arguments)
    tally = Tally(has_markers=not args.no_markers, stages_ms=args.stages_ms)
    fleet = Fleet(plan_of(args), three_seconds(SPOKEN, args.speech), silence(), tally)
    # A full collection over all modules' objects would hold the loop for tens of milliseconds.
    gc.freeze()
    report = uvloop.run(measure(fleet, watched_pids(args)))
    if args.json is not None:
        text = json.dumps(report, ensure_ascii=False, indent=1)
        print(text) if str(args.json) == "-" else args.json.write_text(text + "\n")
    if str(args.json) != "-":
        show(report)
    return 0 if report["turns"] and not report["failures"] else 1


if __name__ == "__main__":
    sys.exit(main())
