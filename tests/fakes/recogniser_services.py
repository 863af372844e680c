"""The services outside that are asked what was said: each with its fake, and where it may differ from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.upstreams.aliyun_asr import AliyunAsr
from bench.upstreams.doubao import Doubao
from bench.upstreams.fun_asr import FunAsr, Server
from shared.upstream.faults import Code
from workers.asr.engines.fun_protocol import PACKET_BYTES

DEADLINES = {
    Code.CONNECT_TIMEOUT: "connect_timeout_s",
    Code.FIRST_TIMEOUT: "first_timeout_s",
    Code.IDLE_TIMEOUT: "idle_timeout_s",
}
"""Which one a failure has run into."""


@dataclass(frozen=True)
class RecogniserService:
    """What a provider's client is asked for in the same words as any other's."""

    name: str
    make: Callable[..., Any]
    faults: Mapping[str, str]
    """Of the fake, and the code of the error that follows."""
    empty: Sequence[str]
    """Faults by which it says that it heard nothing."""
    harmless: Sequence[str]
    """Faults that change nothing."""
    address: Callable[[int], dict[str, Any]]
    """The options that lead to a port of this machine."""
    soon: Mapping[str, Any] = field(default_factory=dict)
    """Options by which it ends a sentence after a short silence."""
    packet_bytes: int = 1
    """The last packet of sound is filled up to this."""
    names_sessions: bool = True
    tells_partials: bool = True


def _faults(start: Mapping[str, str], *, has_quota: bool) -> dict[str, str]:
    """`start` is what differs between services."""
    running = {"error": Code.FAILED, "close": Code.CLOSED, "garbage": Code.MALFORMED}
    if has_quota:
        running["quota"] = Code.QUOTA
    return {
        "silent@connect": Code.CONNECT_TIMEOUT,
        "error@connect": Code.FAILED,
        "quota@connect": Code.QUOTA,
        "close@connect": Code.CONNECT,
        "garbage@connect": Code.CONNECT,
        **start,
        "silent@stream": Code.IDLE_TIMEOUT,
        "silent@finish": Code.IDLE_TIMEOUT,
        **{f"{kind}@{stage}": code for stage in ("start", "stream", "finish") for kind, code in running.items()},
    }


_STRANGE = ("wrong_session@start", "wrong_session@stream", "wrong_session@finish")
_ASKED = {
    "faults": _faults({"silent@start": Code.FIRST_TIMEOUT}, has_quota=True),
    "empty": ("no_result@finish", "no_speech@finish"),
    "harmless": (*_STRANGE, "late_audio@finish"),
    "address": lambda port: {"ws_url": f"ws://127.0.0.1:{port}/"},
}
"""What both services that confirm a start have in common."""


def _fun(server: Server, *, tells_partials: bool) -> RecogniserService:
    return RecogniserService(
        f"fun_{server}",
        partial(FunAsr, server=server),
        faults=_faults({"silent@start": Code.IDLE_TIMEOUT}, has_quota=False),
        empty=("no_result@finish",),
        harmless=_STRANGE,
        address=lambda port: {"port": port},
        packet_bytes=PACKET_BYTES,
        names_sessions=False,
        tells_partials=tells_partials,
    )


ALIYUN = RecogniserService("aliyun", AliyunAsr, **_ASKED, soon={"max_sentence_silence": 200})
DOUBAO = RecogniserService("doubao", Doubao, **_ASKED, soon={"end_window_size": 200})
FUN = _fun("cpp", tells_partials=True)
FUN_PYTHON = _fun("python", tells_partials=True)
FUN_OFFLINE = _fun("cpp_offline", tells_partials=False)
"""The whole sound is recognised at its end."""

PROVIDERS = (ALIYUN, DOUBAO, FUN)
SERVICES = (*PROVIDERS, FUN_PYTHON, FUN_OFFLINE)
