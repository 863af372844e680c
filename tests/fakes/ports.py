"""Ports for a whole cluster."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from shared.config.port_probe import listen_fault
from shared.settings import METRICS_OFFSETS, metrics_port_of

PARTS = 8
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_000
"""Below the kernel's range for outgoing connections: none of those takes a port between the look and the use."""


@dataclass(frozen=True, slots=True)
class ClusterPorts:
    """What one cluster needs."""

    ws: int
    http: int
    metrics: int

    def environment(self) -> dict[str, str]:
        return {"XZ_WS_PORT": str(self.ws), "XZ_HTTP_PORT": str(self.http), "XZ_METRICS_PORT": str(self.metrics)}


def is_free(port: int) -> bool:
    return listen_fault("0.0.0.0", port) is None


def free_cluster_ports() -> ClusterPorts:
    """Free now: for devices, for HTTP and for the first slots of every program's metrics."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(200):
        # Each test process has ranges of its own: two that look at the same moment must not find the same one free.
        base = random.randrange(LOWEST_PORT + 200 * (worker % PARTS), HIGHEST_PORT, 200 * PARTS)
        ports = ClusterPorts(ws=base, http=base + 1, metrics=base + 10)
        metrics = [metrics_port_of(ports.metrics, name, slot) for name in METRICS_OFFSETS for slot in (0, 1)]
        if all(map(is_free, [ports.ws, ports.http, *metrics])):
            return ports
    raise RuntimeError("no free range of ports on this machine")


def free_port_range(count: int) -> int:
    """The first of `count` consecutive ports that are free now."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(200):
        # Between the clusters' own ports: see free_cluster_ports.
        base = random.randrange(LOWEST_PORT + 200 * (worker % PARTS), HIGHEST_PORT, 200 * PARTS) + 160
        if all(is_free(base + offset) for offset in range(count)):
            return base
    raise RuntimeError("no free range of ports on this machine")
