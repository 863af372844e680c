"""Who may connect: limits per router, per address and per device, decided before the upgrade.

Rules
- A router holds `max_devices` connections.
- An address begins `address_connects_per_minute` and holds `address_connections`. Exempt are those behind which many
  devices stand (see router.device.neighbours): for them `address` is empty.
- A device begins `connects_per_minute`: a reboot loop costs one refused request a time and nothing else.
- A refusal says when to come again. The tables hold MAX_ADDRESSES and MAX_DEVICES entries; whoever has not come for the
  longest time is forgotten first, and an address with open connections never.

Pure: `now` is a monotonic clock.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from router.talk.flow_control import TokenBucket
from shared.settings import RouterSettings

MAX_ADDRESSES = 4096
MAX_DEVICES = 16_384

FULL_RETRY_S = 10
CROWDED_RETRY_S = 30

Reason = Literal["router_full", "address_connections", "address_rate", "device_rate"]


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Reason
    retry_after_s: int


@dataclass(slots=True)
class RateTable:
    """A bucket for each name that came lately, `per_minute` deep."""

    per_minute: int
    max_entries: int
    _buckets: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> float | None:
        """Count one attempt of `name`. None if it may, else the seconds until it may again."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self.per_minute, 60.0 / self.per_minute, self.per_minute, now)
            if len(self._buckets) > self.max_entries:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return None if bucket.take(now) else bucket.next_at(now) - now


class Limits:
    """Of one router. `admit_*` are asked in their order before the upgrade; `entered` and `left` frame a connection."""

    def __init__(self, settings: RouterSettings) -> None:
        self.reconfigure(settings)
        self._open: dict[str, int] = {}
        """Connections by address; never longer than `max_devices`."""
        self._connections = 0

    def reconfigure(self, settings: RouterSettings) -> None:
        """Rates are counted anew; who is connected stays and counts."""
        self._max_connections = settings.max_devices
        self._max_per_address = settings.address_connections
        self._address_rates = RateTable(settings.address_connects_per_minute, MAX_ADDRESSES)
        self._device_rates = RateTable(settings.connects_per_minute, MAX_DEVICES)

    def __repr__(self) -> str:
        return f"Limits({self._connections} of {self._max_connections}, {len(self._open)} addresses)"

    def admit_address(self, address: str, now: float) -> Refusal | None:
        """Is there room, and may this address come? An empty address is exempt."""
        if self._connections >= self._max_connections:
            return Refusal("router_full", FULL_RETRY_S)
        if not address:
            return None
        if self._open.get(address, 0) >= self._max_per_address:
            return Refusal("address_connections", CROWDED_RETRY_S)
        wait_s = self._address_rates.take(address, now)
        return None if wait_s is None else Refusal("address_rate", math.ceil(wait_s))

    def admit_device(self, device: str, now: float) -> Refusal | None:
        """May this device, whose token is good, come so soon again?"""
        wait_s = self._device_rates.take(device, now)
        return None if wait_s is None else Refusal("device_rate", math.ceil(wait_s))

    def entered(self, address: str) -> None:
        self._connections += 1
        if address:
            self._open[address] = self._open.get(address, 0) + 1

    def left(self, address: str) -> None:
        """The connection that `entered` is gone."""
        self._connections -= 1
        if not address:
            return
        remaining = self._open[address] - 1
        if remaining:
            self._open[address] = remaining
        else:
            del self._open[address]
