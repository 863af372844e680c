"""One examination: looks at everything within deadlines, and has it judged."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ops.addresses import lan_address, shown_host
from ops.cluster.orphans import orphans_of
from ops.cluster.plan import MIN_FDS
from ops.doctor import doors, machine, places, running, store, upstream
from ops.doctor.deadline import Missed, look
from ops.doctor.engines import CONFIG, judge_config, judge_problems
from ops.doctor.finding import Finding, warn
from ops.doctor.ports import CHECK as PORTS
from ops.doctor.ports import judge_ports
from ops.doctor.probes import cluster as cluster_probe
from ops.doctor.probes import files, proc
from ops.doctor.probes import machine as machine_probe
from ops.doctor.probes import ports as ports_probe
from ops.doctor.probes.reach import reach
from ops.doctor.probes.store import look_at_store
from shared.config.load import load_with_warnings
from shared.config.preflight import check_libopus, check_models, ports_of
from shared.config.run_dir import MAX_SOCKET_PATH_BYTES, default_run_dir
from shared.errors import ConfigError
from shared.settings import ClusterSettings, Settings

CONFIG_DEADLINE_S = 5.0
DEADLINE_S = 10.0
LONGEST_SOCKET_NAME = "supervisor.sock.4194304"
"""supervisord binds its socket under a name that ends in its process id and renames it."""
_UPSTREAM = "upstream "
WITHOUT_SETTINGS = frozenset({"libopus", places.DATA, "holder", places.RUN, running.CLUSTER})
"""What can be looked at while the configuration is refused."""

_LEFT_OUT = object()

Looks = dict[str, Callable[[], Any]]
Seen = Mapping[str, Any]


def examine(environ: Mapping[str, str] = os.environ, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """All findings, in the order a person would mend them."""
    loaded = look({CONFIG: partial(_load, environ)}, CONFIG_DEADLINE_S)[CONFIG]
    if isinstance(loaded, Missed):
        return [_missed(CONFIG, loaded)]
    settings, error, warnings = loaded
    findings = list(judge_config(error, warnings))
    looks = _looks(settings or _bare(environ))
    if settings is None:
        looks = {name: call for name, call in looks.items() if name in WITHOUT_SETTINGS}
    return [*findings, *_judged(settings or _bare(environ), look(looks, deadline_s))]


def _load(environ: Mapping[str, str]) -> tuple[Settings | None, ConfigError | None, list[Any]]:
    try:
        settings, warnings = load_with_warnings(environ)
        return settings, None, list(warnings)
    except ConfigError as error:
        return None, error, []


def _bare(environ: Mapping[str, str]) -> Settings:
    """The directories alone, for a configuration that cannot be used."""
    data_dir = Path(environ.get("XZ_DATA_DIR") or "data").expanduser().absolute()
    told = environ.get("XZ_RUN_DIR")
    run_dir = Path(told).expanduser().absolute() if told else default_run_dir(data_dir, os.geteuid())
    return Settings(cluster=ClusterSettings(data_dir=data_dir, run_dir=run_dir))


def _looks(settings: Settings) -> Looks:
    cluster = settings.cluster
    data_dir, run_dir = cluster.data_dir, cluster.run_dir
    looks: Looks = {
        PORTS: lambda: ports_probe.look_at_ports(ports_of(settings), orphans_of(run_dir.resolve())),
        "libopus": lambda: list(check_libopus(settings)),
        "models": lambda: list(check_models(settings)),
        places.DATA: lambda: files.look_at_place(data_dir, is_tried=True),
        "holder": lambda: files.look_at_holder(data_dir),
        places.RUN: lambda: files.look_at_place(run_dir, is_tried=False),
        machine.POWER: lambda: (machine_probe.cores(), machine_probe.free_bytes()),
        running.CLUSTER: lambda: cluster_probe.look_at_cluster(data_dir, run_dir),
        store.CHECK: lambda: look_at_store(settings),
        doors.OTA: lambda: _ota_fact(settings),
        doors.CALLERS: lambda: _caller_fact(settings),
    }
    return looks | {f"{_UPSTREAM}{each}": partial(reach, each) for each in upstream.upstreams_of(settings)}


def _ota_fact(settings: Settings) -> doors.OtaFact:
    url = settings.web.websocket_url
    return doors.OtaFact(
        url=url,
        own_address=shown_host(settings.cluster.host) if settings.cluster.host else lan_address(),
        ws_port=settings.cluster.ws_port,
        is_container=proc.is_container(),
        reach=_reach_of(url) if url else None,
    )


def _reach_of(url: str) -> str | None:
    parsed = upstream.parsed("server.websocket", url)
    return upstream.words(reach(parsed[0])) if parsed else None


def _caller_fact(settings: Settings) -> doors.CallerFact:
    port = settings.cluster.ws_port
    return doors.CallerFact(
        enroll=settings.auth.enroll,
        addresses=[each.remote for each in proc.connected() if each.local_port == port],
        gateway=proc.default_gateway(),
        trusted_proxies=settings.auth.trusted_proxies,
        is_container=proc.is_container(),
    )


def _judged(settings: Settings, seen: Seen) -> Iterator[Finding]:
    told = seen[running.CLUSTER]
    is_up = isinstance(told, running.ClusterFact) and told.is_up
    yield from _judge(seen, PORTS, lambda facts: judge_ports(facts, is_up=is_up))
    yield from _judge(seen, "libopus", lambda found: judge_problems("libopus", found, "it is installed and loads"))
    yield from _judge(seen, "models", lambda found: judge_problems("models", found, "all that are used are here"))
    yield from _judge(seen, places.DATA, lambda place: _data_findings(settings.cluster, place, seen.get("holder")))
    yield from _judge(seen, places.RUN, lambda place: _run_findings(settings.cluster, place))
    yield from machine.judge_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE), MIN_FDS)
    yield from _judge(
        seen, machine.POWER, lambda power: machine.judge_power(_power_fact(settings, power[0], power[1], is_up))
    )
    reaches = {name: found for name, found in seen.items() if name.startswith(_UPSTREAM)}
    yield from machine.judge_clock(machine.ClockFact(time.time(), _skews_s(reaches.values())))
    if PORTS in seen:
        yield from upstream.judge_upstreams([found for found in reaches.values() if isinstance(found, upstream.Reach)])
    yield from (_missed(name, found) for name, found in reaches.items() if isinstance(found, Missed))
    yield from _judge(seen, doors.OTA, doors.judge_ota)
    yield from _judge(seen, doors.CALLERS, doors.judge_callers)
    yield from _judge(seen, store.CHECK, store.judge_store)
    yield from _judge(seen, running.CLUSTER, running.judge_cluster)


def _judge(seen: Seen, check: str, judge: Callable[[Any], Iterable[Finding]]) -> Iterable[Finding]:
    found = seen.get(check, _LEFT_OUT)
    if found is _LEFT_OUT:
        return []
    return [_missed(check, found)] if isinstance(found, Missed) else judge(found)


def _missed(check: str, missed: Missed) -> Finding:
    return warn(check.strip(), missed.reason, "look there first if something hangs")


def _data_findings(cluster: ClusterSettings, place: places.PlaceFact, holder: object) -> Iterator[Finding]:
    known = holder if isinstance(holder, places.HolderFact) else places.HolderFact()
    return places.judge_data_dir(place, known, str(cluster.run_dir.resolve()))


def _run_findings(cluster: ClusterSettings, place: places.PlaceFact) -> Iterator[Finding]:
    longest = files.longest_socket_path_bytes(Path(cluster.run_dir), LONGEST_SOCKET_NAME)
    return places.judge_run_dir(place, os.geteuid(), longest, MAX_SOCKET_PATH_BYTES)


def _power_fact(settings: Settings, cores: float, free_bytes: int, is_running: bool) -> machine.PowerFact:
    counts = settings.cluster.counts
    return machine.PowerFact(
        cores=cores,
        free_bytes=free_bytes,
        processes={
            "web": 1,
            "router": counts.routers,
            "session": counts.session,
            "asr": counts.asr,
            "tts": counts.tts,
        },
        recognisers=counts.asr * settings.asr.recognisers,
        synthesisers=counts.tts * settings.tts.synth_threads,
        is_running=is_running,
    )


def _skews_s(reaches: Iterable[object]) -> dict[str, float]:
    return {
        found.upstream.host: found.skew_s
        for found in reaches
        if isinstance(found, upstream.Reach) and found.skew_s is not None
    }
