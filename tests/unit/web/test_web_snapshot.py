"""What the routers' answers come to."""

from __future__ import annotations

from typing import Any

import pytest

from router.web.snapshot import ClusterReport, RouterSnapshot, Target, router_target, worker_targets

pytestmark = pytest.mark.unit


def worker(role: str = "asr", slot: int = 0, **changes: Any) -> dict[str, Any]:
    told = {"role": role, "slot": slot, "incarnation": "i0", "capacity": 4, "active": 1, "reserved": 0}
    told |= {"draining": False, "lag_ms": 0.5, "pid": 7, "host": "box", "metrics_port": 9760 + slot, "state": "ready"}
    return told | {"a_key_of_the_future": 1} | changes


def snapshot(slot: int = 0, *workers: dict[str, Any], missing: tuple[str, ...] = (), **changes: Any) -> RouterSnapshot:
    router = {"slot": slot, "pid": 1, "version": "1", "connections": 3, "threads": 5, "draining": False}
    router |= {"sessions": {"idle": 3}} | changes
    pools = {"asr": list(workers)}
    return RouterSnapshot.model_validate(
        {"router": router, "pools": pools, "ready": not missing, "missing": list(missing), "extra": None}
    )


def test_cluster_is_ready_if_every_configured_router_is() -> None:
    """One router that does not answer, drains or waits is enough to say no, and is named."""
    assert ClusterReport({0: snapshot(0), 1: snapshot(1)}).is_ready
    report = ClusterReport(
        {0: snapshot(0), 1: None, 2: snapshot(2, missing=("tts", "asr")), 3: snapshot(3, draining=True)}
    )
    assert not report.is_ready
    assert report.missing == [
        "router 1 (no answer)",
        "router 2 (waits for workers)",
        "router 3 (draining)",
        "asr",
        "tts",
    ]


def test_process_given_up_on_is_named_and_makes_the_cluster_unready() -> None:
    """`xiaozhi up` writes it down."""
    report = ClusterReport({0: snapshot(0)}, {"asr_00": "no model"})
    assert not report.is_ready
    assert report.reasons == ["asr_00: no model"]


def test_worker_that_two_routers_know_is_told_once_with_its_greatest_load() -> None:
    """What a worker beats counts all routers' streams; the fresher beat is the one worth showing."""
    report = ClusterReport({0: snapshot(0, worker(active=2)), 1: snapshot(1, worker(active=3), worker(slot=1))})
    assert [(told.slot, told.active) for told in report.workers()] == [(0, 3), (1, 1)]
    assert [told.routers for told in report.workers()] == [(0, 1), (1,)]


def test_workers_of_this_machine_are_scraped_on_loopback() -> None:
    """Their metrics ports are bound there; a worker without one is no target."""
    report = ClusterReport({0: snapshot(0, worker(), worker(slot=1, host="far"), worker(slot=2, metrics_port=0))})
    targets = worker_targets(report.workers(), "box")
    assert [target.as_http_sd() for target in targets] == [
        {"targets": ["127.0.0.1:9760"], "labels": {"program": "asr", "slot": "0"}},
        {"targets": ["far:9761"], "labels": {"program": "asr", "slot": "1"}},
    ]


def test_slot_whose_old_incarnation_still_drains_is_one_target() -> None:
    """Both have the same port."""
    report = ClusterReport({0: snapshot(0, worker(draining=True, pid=1), worker(incarnation="i1", pid=2))})
    assert [target.load["pid"] for target in worker_targets(report.workers(), "box")] == [2]


def test_silent_router_is_a_target_all_the_same() -> None:
    """Prometheus shall see that it is down."""
    assert router_target(1, 9711, None) == Target("router", 1, "127.0.0.1", 9711)
    assert router_target(0, 9710, snapshot(0)).load == {"pid": 1, "active": 3, "draining": False}
