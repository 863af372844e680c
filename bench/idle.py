"""What a connected device that says nothing costs: memory of all processes together, and threads.

    python -m bench.idle --devices 200 --run-dir run

Connects devices to a running cluster in two halves and reads the processes' proportional set size (PSS) after each: the
difference of the second half is the cost of a device, free of what the first ones made the processes allocate for good.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import uvloop

from bench.processes import Process, cluster_pids, read_all
from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import Identity, enrol, simulated_mac
from ops.device.opus import silence
from ops.local import ota_url

SETTLE_S = 3.0


async def connect(stack: AsyncExitStack, http: aiohttp.ClientSession, ota: str, numbers: range) -> None:
    quiet = silence()
    for number in numbers:
        identity = Identity(simulated_mac("idle", number))
        place = await enrol(http, ota, identity)
        device = await stack.enter_async_context(Device(DeviceOptions(identity, "manual"), quiet))
        await device.open(place.url, place.token)


async def measure(devices: int, ota: str, pids: Sequence[int]) -> tuple[dict[int, Process], ...]:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as http:
        stages = [read_all(pids)]
        for numbers in (range(devices // 2), range(devices // 2, devices)):
            await connect(stack, http, ota, numbers)
            await asyncio.sleep(SETTLE_S)
            stages.append(read_all(pids))
    return tuple(stages)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description="The cost of a silent device.")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--ota", default=None, help="OTA address (default: of the local cluster)")
    parser.add_argument("--pids", help="server processes to watch, separated by commas")
    parser.add_argument("--run-dir", type=Path, help="watch the cluster of this run directory")
    args = parser.parse_args(arguments)
    pids = [int(pid) for pid in args.pids.split(",")] if args.pids else cluster_pids(args.run_dir)
    none, half, all_ = uvloop.run(measure(args.devices, args.ota or ota_url(), pids))
    second_half = args.devices - args.devices // 2
    total = 0
    for pid, process in sorted(all_.items(), key=lambda item: item[1].name):
        grown = process.private_kib - half[pid].private_kib
        total += grown
        threads = f"threads {none[pid].threads} → {half[pid].threads} → {process.threads}"
        print(f"{process.name:32} {grown / second_half:8.1f} KiB a device   {threads}")
    print(f"{'all processes':32} {total / second_half:8.1f} KiB a device, from {args.devices // 2} to {args.devices}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
