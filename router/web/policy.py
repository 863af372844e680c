"""The enrolment policy `server.auth.enroll`: which door a visit finds, before anything is known of the device.

| enroll     | door                                                                   |
|------------|------------------------------------------------------------------------|
| lan        | open to callers on the local network, else away                        |
| allowlist  | open to the devices of `allowed_devices`, shut to all others           |
| activation | ask: the operator approves each device by the code that it shows       |
| open       | open                                                                   |

A device of `allowed_devices` finds the door open in every mode: the operator has named it. In every mode another
client-id of a device that is already remembered waits for the operator, and its screen shows the code. Pure.
"""

from __future__ import annotations

from router.web.caller import Caller
from shared.identity.enrol import Door
from shared.settings import AuthSettings


def door_for(auth: AuthSettings, device: str, caller: Caller) -> Door:
    if auth.enroll == "open" or device in auth.allowed_devices:
        return Door.OPEN
    if auth.enroll == "allowlist":
        return Door.SHUT
    if auth.enroll == "activation":
        return Door.ASK
    return Door.OPEN if caller.is_lan else Door.AWAY
