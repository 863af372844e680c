"""Another machine on this one: a network namespace, a cable (a veth pair) that can be cut, and processes there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field


@dataclass
class SecondMachine:
    """`with SecondMachine() as machine`: up and connected inside, gone behind. Needs root's rights over the network."""

    name: str = field(default_factory=lambda: f"xz{os.getpid()}")

    @property
    def near(self) -> str:
        """This machine's address on the cable."""
        return self._address(1)

    @property
    def far(self) -> str:
        return self._address(2)

    @property
    def prefix(self) -> list[str]:
        """Of a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> SecondMachine:
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", f"{self.name}a", "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("address", "add", f"{self.near}/30", "dev", f"{self.name}a")
            _ip("-n", self.name, "address", "add", f"{self.far}/30", "dev", "eth0")
            for words in ((f"{self.name}a",), ("eth0", "-n"), ("lo", "-n")):
                _ip(*(["-n", self.name] if "-n" in words else []), "link", "set", words[0], "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        # The pair goes with the namespace, and at once: a process that lives on in it would keep both.
        subprocess.run(["ip", "link", "delete", f"{self.name}a"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def cut(self) -> None:
        """Nothing passes, nobody is told."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def mend(self) -> None:
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def _address(self, host: int) -> str:
        return f"10.213.{os.getpid() % 256}.{host + 4 * (os.getpid() // 256 % 64)}"


def why_not() -> str | None:
    """Why this machine cannot play two; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with SecondMachine(f"xzp{os.getpid()}") as machine:
            reached = subprocess.run([*machine.prefix, "true"], check=False, capture_output=True)
            return None if reached.returncode == 0 else "ip netns exec does not work here"
    except FileNotFoundError:
        return "there is no `ip` command"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.decode().strip()}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
