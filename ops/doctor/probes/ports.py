"""Every port of the cluster: free, or whose it is."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from ops.doctor.ports import Owner, PortFact
from ops.doctor.probes import proc


def look_at_ports(ports: Sequence[tuple[str, str, int]], ours: Sequence[int]) -> list[PortFact]:
    """`ports`: use, address, number. `ours`: processes of this cluster."""
    faults = {port: _fault(host, port) for _, host, port in ports}
    owners = _owners({port for port, fault in faults.items() if fault}, frozenset(ours))
    return [PortFact(use, port, faults[port], owners.get(port, ())) for use, _, port in ports]


def _fault(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return "another program listens there" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
    return None


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
