"""A stand-in for a process of the cluster: `python standin.py KIND`, under supervisord.

`good` leaves on SIGTERM, `slow` on the second, `deaf` never; `parent` has a child; `broken` dies at once, `late` after
startsecs; `fragile` runs until there is a file `break` in the data directory and then dies at each start, `brittle`
goes on running but cannot be started again; `mute` runs and is never heard; `web` answers what the `xiaozhi` commands
ask of a web process. A stand-in is heard, and ready, while its file `<data directory>/<process name>.ready` is there:
its process id and the epoch it runs, which it looks up again at SIGHUP.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

DATA_DIR = Path(os.environ["XZ_DATA_DIR"])
NAME = os.environ["SUPERVISOR_PROCESS_NAME"]
READY = DATA_DIR / f"{NAME}.ready"
NEEDED_TERMS = {"slow": 2, "deaf": sys.maxsize}
POLL_S = 0.02


def epoch() -> int:
    return int((Path(os.environ["XZ_EPOCH_DIR"]) / "config.epoch").read_text())


def be_heard() -> None:
    draft = READY.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), "epoch": epoch()}))
    draft.replace(READY)


def be(kind: str) -> None:
    poison = DATA_DIR / "break"
    if kind == "broken" or (kind in ("fragile", "brittle") and poison.exists()):
        sys.exit("no model in this directory")
    terms = 0

    def on_term(_number: int, _frame: object) -> None:
        nonlocal terms
        terms += 1

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGHUP, lambda _number, _frame: be_heard())
    if kind == "parent":
        subprocess.Popen(["sleep", "600"])
    if kind == "late":
        time.sleep(1.3)
        sys.exit("found out late")
    if kind != "mute":
        be_heard()
    server = make_server() if kind == "web" else None
    while terms < NEEDED_TERMS.get(kind, 1) and not (kind == "fragile" and poison.exists()):
        if server is not None:
            server.handle_request()
        else:
            time.sleep(POLL_S)
    READY.unlink(missing_ok=True)
    sys.stdout.write(f"left after {terms}\n")


# The web process


def make_server() -> UnixStreamServer:
    path = Path(os.environ["XZ_RUN_DIR"], "admin.sock" if own_slot() == 0 else f"admin-{own_slot()}.sock")
    path.unlink(missing_ok=True)
    server = UnixStreamServer(str(path), Page)
    server.timeout = POLL_S
    return server


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pages: dict[str, Any] = {"/healthz": {"slot": own_slot(), **life_of(NAME)}, "/api/cluster": cluster()}
        body = json.dumps(pages.get(self.path, {})).encode()
        self.send_response(200 if self.path in pages else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Its log is for what matters."""


def cluster() -> dict[str, Any]:
    """As GET /api/cluster of the web process, as far as the commands read it."""
    lives = [(program, int(slot), life_of(f"{program}_{slot}")) for program, slot in heard()]
    routers = [slot for program, slot, _ in lives if program == "router"]
    return {
        "routers": [
            {"slot": slot, "draining": False, "connections": 0, "ready": True, **life}
            for program, slot, life in lives
            if program == "router"
        ],
        "workers": [
            {"role": program, "slot": slot, "draining": False, "active": 0, "routers": routers, **life}
            for program, slot, life in lives
            if program not in ("router", "web")
        ],
    }


def heard() -> list[tuple[str, str]]:
    found = [path.stem.split("_") for path in DATA_DIR.glob("*.ready")]
    return sorted((program, slot) for program, slot in found)


def life_of(name: str) -> dict[str, int]:
    try:
        return dict(json.loads((DATA_DIR / f"{name}.ready").read_text()))
    except FileNotFoundError:
        return {"pid": 0, "epoch": 0}


def own_slot() -> int:
    return int(NAME.rpartition("_")[2])


if __name__ == "__main__":
    be(sys.argv[1])
