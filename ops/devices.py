"""`xiaozhi devices`: who is remembered, who waits for approval, and what the operator says to it.

It writes to the file of devices itself: the cluster need not run, and sees the change at the device's next visit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.config.load import load
from shared.errors import XiaozhiError
from shared.identity.devices import DeviceRegistry, devices_path
from shared.identity.enrol import DeviceRecord, WaitingRequest


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("devices", help="list, approve, revoke or forget devices")
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    parser.set_defaults(run=run, action="list", json=False)
    listing = actions.add_parser("list", help="remembered devices, and those that wait for approval")
    listing.add_argument("--json", action="store_true", help="one JSON object")
    approve = actions.add_parser("approve", help="let a device in")
    approve.add_argument("device", metavar="CODE", help="the six digits the device shows, or its device-id")
    revoke = actions.add_parser("revoke", help="refuse a device and every token it has")
    revoke.add_argument("device", metavar="DEVICE-ID")
    forget = actions.add_parser("forget", help="let a device begin anew, with any client-id")
    forget.add_argument("device", metavar="DEVICE-ID")


def run(args: argparse.Namespace) -> int:
    try:
        with closing(DeviceRegistry.open(devices_path(load().cluster.data_dir))) as registry:
            return act(registry, args, int(time.time()))
    except XiaozhiError as error:
        print(error, file=sys.stderr)
        return 1


def act(registry: DeviceRegistry, args: argparse.Namespace, now_s: int) -> int:
    """One action on the registry. Raises XiaozhiError where the registry refuses."""
    match args.action:
        case "list":
            show(registry.devices(), registry.waiting(), is_json=args.json)
        case "approve":
            print(f"approved {registry.approve(args.device, now_s).device}")
        case "revoke":
            print(f"revoked {registry.revoke(args.device, now_s).device}")
        case "forget":
            print(f"forgot {registry.forget(args.device, now_s).device}")
    return 0


def show(devices: Iterable[DeviceRecord], waiting: Iterable[WaitingRequest], *, is_json: bool) -> None:
    if is_json:
        # The challenge stays out: whoever has it can answer for the device.
        requests = [{"device": r.device, "client": r.client, "code": r.code, "asked_s": r.asked_s} for r in waiting]
        print(json.dumps({"devices": [asdict(device) for device in devices], "waiting": requests}))
        return
    table = Table("device", "state", "client", "last seen", box=None, pad_edge=False)
    for request in waiting:
        table.add_row(request.device, f"waits: {request.code}", request.client, _when(request.asked_s))
    for device in devices:
        table.add_row(device.device, device.state.value, device.client or "-", _when(device.seen_s))
    Console(soft_wrap=True).print(table if table.row_count else "no devices yet")


def _when(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
