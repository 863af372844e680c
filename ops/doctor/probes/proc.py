"""What /proc tells: who listens, who is connected, which processes belong to a cluster. Linux; empty elsewhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTEN, _ESTABLISHED = "0A", "01"
_TABLES = ("net/tcp", "net/tcp6")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP socket of this machine (of this container)."""

    local_port: int
    remote: str
    inode: str


def listening() -> list[Endpoint]:
    return list(_endpoints(_LISTEN))


def connected() -> list[Endpoint]:
    return list(_endpoints(_ESTABLISHED))


def _endpoints(state: str) -> Iterator[Endpoint]:
    for table in _TABLES:
        for line in _lines(PROC / table)[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == state:
                yield Endpoint(int(fields[1].rpartition(":")[2], 16), address_of(fields[2]), fields[9])


def address_of(field: str) -> str:
    """`0100007F:1F40` is 127.0.0.1: words of four bytes in the machine's order (proc_net_tcp.txt of the kernel)."""
    digits = field.partition(":")[0]
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def owners_of(inodes: frozenset[str]) -> dict[str, list[int]]:
    """Processes that hold these sockets, as far as this user may look."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, list[int]] = {inode: [] for inode in inodes}
    for pid in process_ids():
        for target in _open_files(pid):
            if target in wanted and pid not in found[wanted[target]]:
                found[wanted[target]].append(pid)
    return found


def process_ids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def program_of(pid: int) -> str:
    """Its name, and the module of a Python process; arguments may hold secrets and are not told."""
    words = _read(PROC / str(pid) / "cmdline").split("\0")
    name = Path(words[0]).name or _read(PROC / str(pid) / "comm").strip() or "unknown"
    if "-m" in words[:-1] and name.startswith("python"):
        return f"{name} -m {words[words.index('-m') + 1]}"
    return name


def supervisors_of(data_dir: Path) -> list[int]:
    """Every supervisord of ours that runs on this data directory."""
    wanted = f"XZ_DATA_DIR={data_dir}"
    return [
        pid
        for pid in process_ids()
        if "ops.cluster.supervisord" in _read(PROC / str(pid) / "cmdline").split("\0")
        and wanted in _read(PROC / str(pid) / "environ").split("\0")
    ]


def default_gateway() -> str | None:
    for line in _lines(PROC / "net/route")[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            return address_of(fields[2])
    return None


def is_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _open_files(pid: int) -> Iterator[str]:
    try:
        entries = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):  # closed meanwhile, as the one that lists this process's own
            yield str(entry.readlink())


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()
