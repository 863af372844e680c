"""`xiaozhi devices`: who is remembered, who waits for approval, and what the operator says to it.

It writes to the file of devices itself: the cluster need not run, and sees the change at the device's next visit. What
the store keeps of a device (conversations, memory, sound) is removed with it: a session that goes on loses it at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.config.load import load
from shared.errors import XiaozhiError
from shared.identity.devices import DeviceRegistry, devices_path
from shared.identity.enrol import DeviceNotFoundError, DeviceRecord, WaitingRequest
from shared.settings import Settings


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
    forget = actions.add_parser(
        "forget", help="remove its conversations, memory and sound; let it begin anew, with any client-id"
    )
    forget.add_argument("device", metavar="DEVICE-ID")


def run(args: argparse.Namespace) -> int:
    try:
        settings = load()
        removed = forget_stored(settings, args.device) if args.action == "forget" else []
        with closing(DeviceRegistry.open(devices_path(settings.cluster.data_dir))) as registry:
            code = act(registry, args, int(time.time()), removed)
        if args.action == "forget":
            warn_of_memory_file(settings, args.device)
    except XiaozhiError as error:
        print(error, file=sys.stderr)
        return 1
    return code


def forget_stored(settings: Settings, device: str) -> list[str]:
    """What was removed from the store, for people; empty = it had nothing. Raises StoreError."""
    # Listing and approving do without a database's libraries, which take a moment to load.
    from ops.cluster.store import forget  # noqa: PLC0415

    return forget(settings, device)


def warn_of_memory_file(settings: Settings, device: str) -> None:
    from ops.cluster.store import memory_file_with  # noqa: PLC0415

    path = memory_file_with(settings, device)
    if path is not None:
        print(f"  {path} still has a text of it; it is not read again, so remove that by hand")


def act(registry: DeviceRegistry, args: argparse.Namespace, now_s: int, removed: Sequence[str] = ()) -> int:
    """One action on the registry; `removed` is what `forget` has removed elsewhere already.

    Raises XiaozhiError where the registry refuses.
    """
    match args.action:
        case "list":
            show(registry.devices(), registry.waiting(), is_json=args.json)
        case "approve":
            print(f"approved {registry.approve(args.device, now_s).device}")
        case "revoke":
            print(f"revoked {registry.revoke(args.device, now_s).device}")
        case "forget":
            forget(registry, args.device, now_s, removed)
    return 0


def forget(registry: DeviceRegistry, device: str, now_s: int, removed: Sequence[str]) -> None:
    """Raises DeviceNotFoundError if nothing was anywhere."""
    try:
        registry.forget(device, now_s)
    except DeviceNotFoundError:
        if not removed:
            raise
    print(f"forgot {device}")
    for line in removed:
        print(f"  removed {line}")
    if not removed:
        print("  there were no conversations, no memory and no sound of it")


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
