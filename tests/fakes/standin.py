"""A stand-in for a process of the cluster: `python standin.py KIND`, under supervisord.

`good` leaves on SIGTERM, `slow` on the second, `deaf` never; `parent` has a child; `broken` dies at once, `late` after
startsecs; `fragile` runs until there is a file `break` in the data directory and then dies at each start. A stand-in is
ready when its file `<data directory>/<process name>.ready` is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DATA_DIR = Path(os.environ["XZ_DATA_DIR"])
NEEDED_TERMS = {"slow": 2, "deaf": sys.maxsize}


def be(kind: str) -> None:
    poison = DATA_DIR / "break"
    if kind == "broken" or (kind == "fragile" and poison.exists()):
        sys.exit("no model in this directory")
    terms = 0

    def on_term(_number: int, _frame: object) -> None:
        nonlocal terms
        terms += 1

    signal.signal(signal.SIGTERM, on_term)
    if kind == "parent":
        subprocess.Popen(["sleep", "600"])
    if kind == "late":
        time.sleep(1.3)
        sys.exit("found out late")
    (DATA_DIR / f"{os.environ['SUPERVISOR_PROCESS_NAME']}.ready").touch()
    while terms < NEEDED_TERMS.get(kind, 1) and not (kind == "fragile" and poison.exists()):
        time.sleep(0.02)
    sys.stdout.write(f"left after {terms}\n")


if __name__ == "__main__":
    be(sys.argv[1])
