"""Opening a WebSocket as the firmware does, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Request

from ops.device.enrolment import DeviceError, Identity
from ops.device.wire import ProtocolVersion

_MAX_MESSAGE_BYTES = 1 << 20


class DeviceConnection(ClientConnection):
    """The firmware's request has `Host` without a port, whatever the port (78/esp-ml307, src/web_socket.cc)."""

    async def handshake(self, *args: object, **kwargs: object) -> None:
        make_request: Callable[[], Request] = self.protocol.connect

        def without_port() -> Request:
            request = make_request()
            del request.headers["Host"]
            request.headers["Host"] = self.protocol.uri.host
            return request

        setattr(self.protocol, "connect", without_port)  # noqa: B010 - mypy refuses to assign to a method
        await super().handshake(*args, **kwargs)  # type: ignore[arg-type]


async def open_connection(
    url: str, identity: Identity, token: str, version: ProtocolVersion, timeout_s: float
) -> ClientConnection:
    """The open socket, or DeviceError."""
    headers = {
        "Device-Id": identity.device,
        "Client-Id": identity.client_id,
        "Protocol-Version": str(version),
    }
    if token:
        headers["Authorization"] = token if " " in token else f"Bearer {token}"
    try:
        return await connect(
            url,
            create_connection=DeviceConnection,
            additional_headers=headers,
            user_agent_header=None,
            compression=None,
            proxy=None,
            # A device never pings and knows no closing handshake.
            ping_interval=None,
            close_timeout=1.0,
            open_timeout=timeout_s,
            max_size=_MAX_MESSAGE_BYTES,
        )
    except InvalidStatus as error:
        raise _refused(url, error.response.status_code) from error
    except InvalidURI as error:
        raise DeviceError(f"{url} is not a WebSocket address (ws://host:port/path)", code="bad_url") from error
    except TimeoutError as error:
        raise DeviceError(f"{url} did not answer within {timeout_s:g} s", code="connect_timeout") from error
    except (OSError, InvalidHandshake, EOFError) as error:
        raise DeviceError(f"no server at {url}: {error}", code="unreachable") from error


def _refused(url: str, status: int) -> DeviceError:
    if status in (401, 403):
        return DeviceError(
            f"{url} refused this device ({status}): no valid token. Ask the OTA address for one (--ota URL),"
            " or allow the device in server.auth",
            code="refused",
        )
    return DeviceError(f"{url} answered {status} instead of opening a WebSocket", code="handshake_status")
