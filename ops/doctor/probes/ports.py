"""Every port of the cluster: free, or whose it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ops.doctor.ports import Owner, PortFact
from ops.doctor.probes import proc
from shared.config.port_probe import listen_fault


def look_at_ports(ports: Sequence[tuple[str, str, int]], ours: Sequence[int]) -> list[PortFact]:
    """`ports`: use, address, number. `ours`: processes of this cluster."""
    faults = {port: _fault(host, port) for _, host, port in ports}
    owners = _owners({port for port, fault in faults.items() if fault}, frozenset(ours))
    return [PortFact(use, port, faults[port], owners.get(port, ())) for use, _, port in ports]


def _fault(host: str, port: int) -> str | None:
    fault = listen_fault(host, port)
    if fault is None:
        return None
    return "another program listens there" if fault.errno == errno.EADDRINUSE else os.strerror(fault.errno or 0)


def _owners(ports: set[int], ours: frozenset[int]) -> dict[int, tuple[Owner, ...]]:
    sockets = {each.inode: each.local_port for each in proc.listening() if each.local_port in ports}
    found: dict[int, set[int]] = {}
    for inode, pids in proc.owners_of(frozenset(sockets)).items():
        found.setdefault(sockets[inode], set()).update(pids)
    return {
        port: tuple(Owner(pid, proc.program_of(pid), pid in ours) for pid in sorted(pids))
        for port, pids in found.items()
        if pids
    }
