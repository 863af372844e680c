"""The token a visiting device gets: the policy decides the door, the registry remembers, this signs."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import structlog

from router.web.boot import Ids
from router.web.caller import Caller
from router.web.disk import DiskThread
from router.web.policy import door_for
from shared.identity.auth import make_token
from shared.identity.devices import DeviceRegistry, Visit
from shared.identity.enrol import DeviceState, Outcome, WaitingRequest
from shared.identity.metrics import REGISTRY_ERRORS
from shared.settings import AuthSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    """`token` None = the device keeps the one it has; "" = it has none."""

    outcome: str
    token: str | None
    request: WaitingRequest | None = None

    @property
    def trusted(self) -> bool | None:
        """For what else is as secret as a token: True = give it, False = clear it, None = leave it alone."""
        if self.outcome in {Outcome.GRANTED, "disabled"}:
            return True
        return None if self.token is None else False


class Admissions:
    def __init__(self, auth: AuthSettings, registry: DeviceRegistry, disk: DiskThread) -> None:
        self._auth = auth
        self._registry = registry
        self._disk = disk

    async def admit(self, ids: Ids, caller: Caller, now_s: float) -> Admission:
        """What this visit comes to. A registry that cannot answer costs the device nothing that it has."""
        if not self._auth.enabled:
            return Admission("disabled", "")
        door = door_for(self._auth, ids.device, caller)
        try:
            visit = await self._disk.run(self._registry.visit, ids.device, ids.client, door, int(now_s))
        except sqlite3.Error as error:
            REGISTRY_ERRORS.inc()
            _log.error("device_registry_failed", error=str(error))
            return Admission("error", None)
        return self._admission(visit, ids, now_s)

    def _admission(self, visit: Visit, ids: Ids, now_s: float) -> Admission:
        outcome, record = visit.outcome, visit.record
        if outcome is not Outcome.GRANTED:
            return Admission(outcome, None if outcome is Outcome.KEPT else "", visit.request)
        # Within the second of a revocation, a token for the device's return must not look like one from before.
        issued_s = max(now_s, record.refused_before_s)
        return Admission(outcome, make_token(self._auth.key, ids.client, ids.device, issued_s))

    async def is_active(self, ids: Ids) -> bool:
        """Whether the device that polls for its activation has been let in."""
        if not self._auth.enabled:
            return True
        record = await self._disk.run(self._registry.find, ids.device)
        if record is None or (self._auth.enroll == "allowlist" and ids.device not in self._auth.allowed_devices):
            return False
        if record.state is DeviceState.APPROVED:
            return True
        return record.state is DeviceState.ENROLLED and record.client == ids.client
