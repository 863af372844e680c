"""Several looks at once, each on a thread of its own, and none waited for beyond the deadline.

A name server, a network file system or a wedged process can hold a call for minutes; the threads are daemons, so what
does not come back holds up neither the answer nor the end of the command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Missed:
    """A look that brought nothing: why."""

    reason: str


def look(calls: Mapping[str, Callable[[], Any]], deadline_s: float) -> dict[str, Any]:
    """What each call returned, or Missed."""
    found: dict[str, Any] = {}
    threads = {
        name: threading.Thread(target=_run, args=(name, call, found), name=f"doctor-{name}", daemon=True)
        for name, call in calls.items()
    }
    for thread in threads.values():
        thread.start()
    ends_s = time.monotonic() + deadline_s
    for thread in threads.values():
        thread.join(max(0.0, ends_s - time.monotonic()))
    overdue = Missed(f"no answer within {deadline_s:g} s")
    return {name: found.get(name, overdue) for name in calls}


def _run(name: str, call: Callable[[], Any], found: dict[str, Any]) -> None:
    try:
        found[name] = call()
    except Exception as error:  # the thread's root; the message may hold what was being looked at
        found[name] = Missed(f"the check itself failed ({type(error).__name__})")
