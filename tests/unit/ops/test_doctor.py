"""What the doctor says to each fact, and how it looks."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ops.doctor.checkup import examine
from ops.doctor.command import show
from ops.doctor.deadline import Missed, look
from ops.doctor.doors import CallerFact, OtaFact, judge_callers, judge_ota
from ops.doctor.engines import judge_config, judge_problems
from ops.doctor.finding import Finding, Level, fail, has_failed, ok, warn
from ops.doctor.machine import ClockFact, PowerFact, judge_clock, judge_open_files, judge_power
from ops.doctor.places import HolderFact, PlaceFact, judge_data_dir, judge_run_dir
from ops.doctor.ports import Owner, PortFact, judge_ports
from ops.doctor.probes import files, machine, proc
from ops.doctor.probes.ports import look_at_ports
from ops.doctor.probes.reach import fault_of, reach
from ops.doctor.running import ClusterFact, ProcessFact, judge_cluster
from ops.doctor.store import StoreFact, judge_store
from ops.doctor.upstream import Reach, Upstream, judge_upstreams, upstreams_of
from shared.config.findings import ConfigWarning
from shared.config.preflight import Problem
from shared.errors import ConfigError, InvalidConfigError
from shared.settings import AsrSettings, EngineChoice, SessionSettings, Settings, TtsSettings, WebSettings

pytestmark = pytest.mark.unit

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


def told(findings: Iterable[Finding], level: Level, *words: str) -> None:
    """Exactly one finding, of this level, that has these words; what is wrong has a remedy."""
    (only,) = list(findings)
    assert only.level is level, only
    assert all(word in f"{only.what} {only.remedy}" for word in words), only
    assert bool(only.remedy) == (level is not OK)


# Ports

FREE = PortFact("devices", 8000)
FOREIGN = PortFact("devices", 8000, "another program listens there", (Owner(7, "nginx", is_ours=False),))
OURS = PortFact("devices", 8000, "another program listens there", (Owner(8, "python -m router", is_ours=True),))


@pytest.mark.parametrize(
    ("facts", "is_up", "level", "words"),
    [
        ([FREE], False, OK, ["free"]),
        ([OURS], True, OK, ["1 in use by this cluster"]),
        ([FOREIGN], False, FAIL, ["8000", "nginx", "process 7"]),
        ([FOREIGN], True, FAIL, ["nginx"]),
        ([replace(FOREIGN, owners=())], False, FAIL, ["8000", "ss -ltnp"]),
    ],
)
def test_a_port_is_free_ours_or_somebody_elses(
    facts: list[PortFact], is_up: bool, level: Level, words: list[str]
) -> None:
    """By whom it is taken, if /proc tells."""
    told(judge_ports(facts, is_up=is_up), level, *words)


def test_ports_of_a_dead_cluster_are_told_from_strangers() -> None:
    """The next start ends what holds them."""
    told([found for found in judge_ports([OURS], is_up=False) if found.level is not OK], WARN, "earlier cluster")


def test_two_uses_of_one_port_are_named() -> None:
    """Neither would be wrong alone."""
    found = [found for found in judge_ports([FREE, PortFact("metrics", 8000)], is_up=False) if found.level is not OK]
    told(found, FAIL, "devices", "metrics")


def test_the_owner_of_a_port_is_found() -> None:
    """This test listens; /proc says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (fact,) = look_at_ports([("test", "127.0.0.1", port)], [os.getpid()])
    assert fact.fault and os.getpid() in [owner.pid for owner in fact.owners]
    assert fact.owners[0].is_ours and "python" in fact.owners[0].program


def test_addresses_of_the_kernels_table_are_read() -> None:
    """Both families, and IPv4 that came in by IPv6."""
    assert proc.address_of("0100007F:1F40") == "127.0.0.1"
    assert proc.address_of("00000000000000000000000001000000:1F40") == "::1"
    assert proc.address_of("0000000000000000FFFF00000100000A:0050") == "10.0.0.1"


# Directories

DATA_DIR = PlaceFact("/data", exists=True)
MB = 2**20


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, OK, ["/data", "MB free"]),
        ({"exists": False}, OK, ["first start"]),
        ({"is_directory": False}, FAIL, ["no directory"]),
        ({"is_writable": False, "owner": 33}, FAIL, ["user 33", "XZ_DATA_DIR"]),
        ({"free_bytes": MB}, FAIL, ["full"]),
        ({"free_bytes": 100 * MB}, WARN, ["100 MB"]),
        ({"has_locks": False, "file_system": "fuse"}, FAIL, ["without locks", "fuse"]),
        ({"file_system": "nfs4"}, FAIL, ["network file system", "nfs4"]),
        ({"mode": 0o777}, WARN, ["0777", "chmod"]),
    ],
)
def test_a_data_directory(change: dict[str, object], level: Level, words: list[str]) -> None:
    """There, writable, with room, lockable, and closed to strangers."""
    told(judge_data_dir(replace(DATA_DIR, **change), HolderFact(), "/run"), level, *words)  # type: ignore[arg-type]


def test_two_clusters_on_one_data_directory() -> None:
    """Which the lock prevents, unless it does not work there."""
    told(judge_data_dir(DATA_DIR, HolderFact(5, "/run", (11, 12)), "/run"), FAIL, "2 clusters", "11, 12")
    told(judge_data_dir(DATA_DIR, HolderFact(5, "/other", (11,)), "/run"), WARN, "XZ_RUN_DIR=/other")
    told(judge_data_dir(DATA_DIR, HolderFact(5, "/run", (11,)), "/run"), OK)


@pytest.mark.parametrize(
    ("change", "length", "level", "words"),
    [
        ({}, 50, OK, ["/run"]),
        ({"exists": False}, 50, OK, ["will be made"]),
        ({"is_directory": False}, 50, FAIL, ["link or a file"]),
        ({"owner": 33}, 50, FAIL, ["user 33"]),
        ({"mode": 0o755}, 50, FAIL, ["0755", "chmod 700"]),
        ({}, 108, FAIL, ["108 bytes", "shorter"]),
    ],
)
def test_a_run_directory(change: dict[str, object], length: int, level: Level, words: list[str]) -> None:
    """Ours alone, and with a path that leaves room for sockets."""
    place = replace(PlaceFact("/run", exists=True), **change)  # type: ignore[arg-type]
    told(judge_run_dir(place, 0, length, 107), level, *words)


def test_a_directory_is_looked_at(tmp_path: Path) -> None:
    """Nothing is left in it."""
    found = files.look_at_place(tmp_path, is_tried=True)
    assert found.exists and found.is_directory and found.is_writable and found.has_locks and found.file_system
    assert found.owner == os.geteuid() and found.free_bytes > 0
    assert list(tmp_path.iterdir()) == []
    assert not files.look_at_place(tmp_path / "none", is_tried=True).exists


def test_a_directory_that_cannot_be_written(as_plain_user: Path) -> None:
    """By this user."""
    shut = as_plain_user / "shut"
    shut.mkdir(mode=0o500)
    assert not files.look_at_place(shut, is_tried=True).is_writable


# The machine

NOW_S = 1_790_000_000.0


@pytest.mark.parametrize(
    ("now_s", "skews_s", "level", "words"),
    [
        (NOW_S, {}, OK, ["2026"]),
        (NOW_S, {"api": 2.0}, OK, ["api"]),
        (NOW_S, {"api": 300.0}, WARN, ["300 s behind", "tokens"]),
        (NOW_S, {"api": -90_000.0}, FAIL, ["ahead of", "api"]),
        (0.0, {}, FAIL, ["1970"]),
    ],
)
def test_the_clock(now_s: float, skews_s: dict[str, float], level: Level, words: list[str]) -> None:
    """Device tokens and certificates expire by it."""
    told(judge_clock(ClockFact(now_s, skews_s)), level, *words)


@pytest.mark.parametrize(
    ("hard", "level"), [(-1, OK), (65_536, OK), (16_384, OK), (8_192, WARN), (4_096, WARN), (1_024, FAIL)]
)
def test_open_files(hard: int, level: Level) -> None:
    """Each connection is one."""
    told(judge_open_files(1024, hard, 16_384), level)


POWER = PowerFact(cores=4, free_bytes=4096 * MB, processes={"asr": 2, "tts": 2}, recognisers=4, synthesisers=2)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, OK, ["4 cores"]),
        ({"recognisers": 64, "is_running": True}, WARN, ["64 recognisers"]),
        ({"free_bytes": 256 * MB}, WARN, ["256 MB are free"]),
        ({"free_bytes": 256 * MB, "is_running": True}, OK, []),
    ],
)
def test_cores_and_memory(change: dict[str, object], level: Level, words: list[str]) -> None:
    """What is started has to find room; what runs has found it."""
    told(judge_power(replace(POWER, **change)), level, *words)  # type: ignore[arg-type]


def test_this_machine_has_some() -> None:
    """The probes read what the kernel tells."""
    assert machine.cores() > 0 and machine.free_bytes() > 0


# Upstreams

SECRET = "s3cret"
OPTIONS = {"base_url": f"https://me:{SECRET}@api.example.com/v1?key={SECRET}", "api_key": SECRET, "model_name": "m"}
LLM = EngineChoice(name="Mine", type="openai", options=OPTIONS)


def test_upstreams_are_named_without_their_secrets() -> None:
    """Scheme, host and port of each engine in use and of the gateway."""
    settings = Settings(session=SessionSettings(llm=LLM), web=WebSettings(mqtt_gateway="10.0.0.9:1883"))
    found = upstreams_of(settings)
    assert [str(each) for each in found] == ["https://api.example.com:443", "mqtt://10.0.0.9:1883"]
    assert found[0].key == "LLM.Mine.base_url"
    assert SECRET not in repr(found) + repr(list(judge_upstreams([Reach(each, "refused") for each in found])))


def test_services_behind_a_bare_host_and_fallbacks_are_upstreams() -> None:
    """What an engine really asks, its own defaults included; and those that would take over."""
    asr = EngineChoice(name="Cloud", type="aliyun_stream", options={"appkey": SECRET, "token": SECRET})
    local = EngineChoice(name="Local", type="sine")
    other = EngineChoice(
        name="Other", type="huoshan_double_stream", options={"appid": "a", "access_token": SECRET, "speaker": "s"}
    )
    tts = TtsSettings(engine=local, fallbacks=("Other",), engines={"Other": other})
    found = upstreams_of(Settings(asr=AsrSettings(engine=asr), tts=tts))
    assert [(each.key, each.host) for each in found] == [
        ("ASR.Cloud", "nls-gateway-cn-shanghai.aliyuncs.com"),
        ("TTS.Other", "openspeech.bytedance.com"),
    ]
    assert SECRET not in repr(found)


@pytest.mark.parametrize("text", ["not an address", "http://", "http://[::1", "file:///etc/passwd", "http://h:99999"])
def test_what_is_no_address_is_no_upstream(text: str) -> None:
    """The configuration's own checks speak of those."""
    assert upstreams_of(Settings(session=SessionSettings(llm=LLM.model_copy(update={"options": {"url": text}})))) == []


API = Upstream("LLM.Mine.url", "https", "api.example.com", 443)


@pytest.mark.parametrize(
    ("fault", "level", "words"),
    [
        ("", OK, ["is reached"]),
        ("resolve", FAIL, ["name is not known", "DNS"]),
        ("refused", FAIL, ["nothing listens"]),
        ("timeout", WARN, ["deadline", "firewall"]),
        ("unreachable", FAIL, ["no way"]),
        ("certificate", FAIL, ["certificate", "clock"]),
        ("tls", FAIL, ["TLS"]),
    ],
)
def test_each_way_of_not_reaching_an_upstream(fault: str, level: Level, words: list[str]) -> None:
    """Has its own remedy."""
    told(judge_upstreams([Reach(API, fault)]), level, "api.example.com:443", "LLM.Mine.url", *words)


def test_no_upstream_is_well() -> None:
    """The embedded engines need none."""
    told(judge_upstreams([]), OK, "this machine")


def test_failures_are_told_apart() -> None:
    """As the standard library raises them."""
    certificate = ssl.SSLCertVerificationError()
    certificate.verify_message = "certificate has expired"
    assert fault_of(certificate) == ("certificate", "certificate has expired")
    assert fault_of(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"))[0] == "tls"
    assert fault_of(socket.gaierror(-2, "unknown"))[0] == "resolve"
    assert fault_of(TimeoutError())[0] == "timeout"
    assert fault_of(ConnectionRefusedError())[0] == "refused"
    assert fault_of(OSError(113, "No route to host")) == ("unreachable", "No route to host")


def test_an_upstream_is_reached_and_its_clock_read(free_port: int) -> None:
    """Whatever it answers: 401 has a Date too."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 401 No\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\n\r\n")

        thread = threading.Thread(target=answer, name="upstream")
        thread.start()
        found = reach(Upstream("k", "http", "127.0.0.1", server.getsockname()[1]))
        thread.join()
    assert found.fault == "" and found.skew_s is not None and found.skew_s < -900_000_000
    assert reach(Upstream("k", "http", "127.0.0.1", free_port)).fault == "refused"


def test_a_plain_port_is_no_tls() -> None:
    """The most frequent slip: https:// of a server that speaks http."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, name="upstream")
        thread.start()
        found = reach(Upstream("k", "https", "127.0.0.1", server.getsockname()[1]))
        thread.join()
    assert found.fault == "tls"


# What devices are told, and who they are

OTA = OtaFact("ws://10.0.0.5:8000/xiaozhi/v1/", "10.0.0.5", 8000)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, OK, ["ws://10.0.0.5:8000/xiaozhi/v1/"]),
        ({"reach": ""}, OK, []),
        ({"reach": "nothing listens there"}, WARN, ["nothing listens there"]),
        ({"url": "ws://localhost:8000/xiaozhi/v1/"}, FAIL, ["localhost", "the device itself"]),
        ({"url": "ws://127.0.0.1:8000/xiaozhi/v1/"}, FAIL, ["the device itself"]),
        ({"url": "ws://0.0.0.0:8000/xiaozhi/v1/"}, FAIL, ["the device itself"]),
        ({"url": "ws://172.17.0.2:8000/xiaozhi/v1/"}, FAIL, ["inside containers"]),
        ({"url": "ws://host.docker.internal:8000/xiaozhi/v1/"}, FAIL, ["inside containers"]),
        ({"url": "http://10.0.0.5:8000/xiaozhi/v1/"}, FAIL, ["http://", "ws://"]),
        ({"url": "ws:///xiaozhi/v1/"}, FAIL, ["no host"]),
        ({"url": "ws://10.0.0.5:notaport/"}, FAIL, ["no address"]),
        ({"url": "ws://10.0.0.5:8000/other/"}, WARN, ["another path"]),
        ({"url": None}, OK, ["host they called", "8000"]),
        ({"url": None, "own_address": "127.0.0.1"}, WARN, ["loopback"]),
        ({"url": None, "is_container": True}, WARN, ["container", "publish"]),
    ],
)
def test_the_address_that_devices_are_told(change: dict[str, object], level: Level, words: list[str]) -> None:
    """A device believes it and has nobody to ask."""
    told(judge_ota(replace(OTA, **change)), level, *words)  # type: ignore[arg-type]


CALLERS = CallerFact("lan", ["192.168.1.2", "192.168.1.3", "192.168.1.4"], "192.168.1.1")


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, OK, ["3 addresses"]),
        ({"addresses": ["172.17.0.1"] * 3, "gateway": "172.17.0.1"}, WARN, ["gateway", "trusted_proxies"]),
        ({"addresses": ["10.0.0.7"] * 5}, WARN, ["10.0.0.7", "everybody counts as local"]),
        ({"addresses": ["10.0.0.7"] * 2}, OK, []),
        ({"addresses": ["10.0.0.7"] * 5, "trusted_proxies": ["10.0.0.7"]}, OK, []),
        ({"addresses": ["172.17.0.1"] * 3, "enroll": "activation"}, OK, ["activation"]),
        ({"addresses": [], "is_container": True}, WARN, ["container"]),
    ],
)
def test_callers_that_all_look_local(change: dict[str, object], level: Level, words: list[str]) -> None:
    """Behind a bridge or an unknown proxy `enroll: lan` lets in everybody."""
    told(judge_callers(replace(CALLERS, **change)), level, *words)  # type: ignore[arg-type]


# The configuration and what it needs


def test_every_wrong_key_is_told() -> None:
    """Key, value and what was expected."""
    errors = [ConfigError("a.b", 3, "text"), ConfigError("c", "x", "a number")]
    first, second = judge_config(InvalidConfigError(errors), [])
    assert (first.level, first.what, first.remedy) == (FAIL, "a.b: got 3", "expected text")
    assert second.what == "c: got 'x'"
    told(judge_config(errors[0], []), FAIL, "a.b")
    told(judge_config(None, [ConfigWarning("k", "ignored")]), WARN, "k: ignored")
    told(judge_config(None, []), OK)


def test_problems_of_the_start_are_findings() -> None:
    """libopus, models."""
    told(judge_problems("libopus", [Problem("libopus", "not installed", "apt-get")], "well"), FAIL, "apt-get")
    told(judge_problems("libopus", [], "well"), OK, "well")


@pytest.mark.parametrize(
    ("fact", "level", "words"),
    [
        (StoreFact(exists=False), OK, ["first start"]),
        (StoreFact(exists=True), OK, ["fit"]),
        (StoreFact(exists=True, fault="store_schema_old", detail="version none"), WARN, ["version none"]),
        (StoreFact(exists=True, fault="store_schema_newer", detail="version 9"), FAIL, ["newer program"]),
        (StoreFact(exists=True, fault="store_down", detail="locked"), FAIL, ["store_down", "locked"]),
    ],
)
def test_the_stores_tables(fact: StoreFact, level: Level, words: list[str]) -> None:
    """Older ones are brought up to date by the start, newer ones are not touched."""
    told(judge_store(fact), level, *words)


# The running cluster

NAMES = ("router_00", "asr_00", "tts_00", "session_00", "web_00")
WELL = tuple(ProcessFact(name, name[:-3], "RUNNING", 100) for name in NAMES)
WORKER = {"slot": 0, "active": 1, "capacity": 10, "lag_ms": 1.0}
TOLD = {
    "workers": [{"role": role, **WORKER} for role in ("asr", "tts", "session")],
    "routers": [{"connections": 2}],
}
UP = ClusterFact(5, supervisor_answers=True, processes=WELL, told=TOLD)


def bad(fact: ClusterFact) -> list[Finding]:
    return [found for found in judge_cluster(fact) if found.level is not OK]


def test_a_healthy_cluster_has_nothing_wrong() -> None:
    """Three lines: processes, workers, load."""
    assert [found.level for found in judge_cluster(UP)] == [OK, OK, OK]


@pytest.mark.parametrize(
    ("fact", "level", "words"),
    [
        (ClusterFact(None, supervisor_answers=False), OK, ["not running"]),
        (ClusterFact(None, supervisor_answers=False, orphans=(3, 4)), WARN, ["2 of its processes", "xiaozhi up"]),
        (ClusterFact(5, supervisor_answers=False), FAIL, ["process 5", "does not answer"]),
        (ClusterFact(5, supervisor_answers=True), FAIL, ["none of its processes runs"]),
    ],
)
def test_a_cluster_that_is_not_up(fact: ClusterFact, level: Level, words: list[str]) -> None:
    """Not started, half dead, or up with nothing in it."""
    told(judge_cluster(fact), level, *words)


def test_what_runs_without_its_command_is_told() -> None:
    """supervisord dies with it; one that did not is watched by nobody."""
    told(bad(replace(UP, holder=None)), WARN, "nobody watches")


@pytest.mark.parametrize("state", ["FATAL", "BACKOFF", "EXITED"])
def test_a_broken_process_is_shown_with_the_end_of_its_log(state: str) -> None:
    """And where the rest of it lies."""
    broken = replace(WELL[1], state=state, message="too quick", log="/logs/asr_00.log", tail=("no model here",))
    told(
        bad(replace(UP, processes=(*WELL[:1], broken, *WELL[2:]))), FAIL, state, "too quick", "no model here", "/logs/"
    )


def test_a_silent_web_process() -> None:
    """Nothing can be said of loads then."""
    told(bad(replace(UP, told=None)), FAIL, "web process")


def test_a_worker_that_never_joined() -> None:
    """It may still be loading at first."""
    absent = {**TOLD, "workers": TOLD["workers"][1:]}
    told(bad(replace(UP, told=absent)), FAIL, "asr_00", "has not joined", "XZ_ROUTER_ENDPOINTS")
    young = tuple(replace(process, uptime_s=3) for process in WELL)
    told(bad(replace(UP, told=absent, processes=young)), WARN, "asr_00", "yet")


def test_a_pool_at_its_capacity_and_a_loop_that_lags() -> None:
    """New streams are refused, or go elsewhere."""
    full = {**TOLD, "workers": [{**TOLD["workers"][0], "active": 9}, *TOLD["workers"][1:]]}
    told(bad(replace(UP, told=full)), WARN, "asr pool", "9 of 10", "XZ_ASR")
    late = {**TOLD, "workers": [{**TOLD["workers"][0], "lag_ms": 900.0}, *TOLD["workers"][1:]]}
    told(bad(replace(UP, told=late)), WARN, "asr_00", "900 ms")


# The examination


def test_a_look_that_hangs_is_left_behind() -> None:
    """The others are told, and it is named."""
    forever = threading.Event()
    began_s = time.monotonic()
    found = look({"quick": lambda: 1, "stuck": forever.wait, "broken": lambda: 1 / 0}, 0.3)
    forever.set()
    assert time.monotonic() - began_s < 20
    assert found["quick"] == 1
    assert found["stuck"] == Missed("no answer within 0.3 s")
    assert "ZeroDivisionError" in found["broken"].reason


def test_a_refused_configuration_still_has_its_machine_looked_at(tmp_path: Path) -> None:
    """And no value of a secret key is told."""
    text = f"server: {{port: often, auth_key: [{SECRET}]}}"
    (tmp_path / ".config.yaml").write_text(text)
    found = examine({"XZ_DATA_DIR": str(tmp_path)})
    failed = [each for each in found if each.level is FAIL]
    assert "server.port: got 'often'" in [each.what for each in failed]
    assert {"libopus", "data directory", "clock", "cluster"} <= {each.check for each in found}
    assert SECRET not in json.dumps([repr(each) for each in found])


def test_lines_are_readable_without_colour() -> None:
    """One line a finding; the end of a log stands below its own."""
    output = StringIO()
    findings = [ok("a", "well"), warn("b", "so so", "mend it"), fail("c", "bad\nlast words", "mend it too")]
    show(findings, Console(file=output, soft_wrap=True))
    expected = "ok    a: well\nwarn  b: so so → mend it\nfail  c: bad → mend it too\n        last words\n"
    assert output.getvalue() == expected
    assert has_failed(findings) and not has_failed(findings[:2])
