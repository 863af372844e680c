"""The answer to a device's boot request."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.web import reply
from router.web.caller import HostPort
from shared.identity.enrol import WaitingRequest

pytestmark = pytest.mark.unit

GATEWAY = reply.MqttGateway("10.0.0.1:1883", "test-secret")
DEVICE = "11:22:33:44:55:66"


def section_is_bearable(section: dict[str, Any]) -> bool:
    return all(
        len(key) <= reply.MAX_KEY_CHARS
        and not isinstance(value, bool)
        and (not isinstance(value, str) or len(value.encode()) <= reply.MAX_STRING_BYTES)
        for key, value in section.items()
    )


def test_mqtt_vectors_of_todays_server() -> None:
    """Username and password as its gateway verifies them."""
    section = reply.mqtt_section(GATEWAY, DEVICE, "bread-compact-wifi", trusted=True)
    assert section == {
        "endpoint": "10.0.0.1:1883",
        "client_id": "GID_bread-compact-wifi@@@11_22_33_44_55_66@@@11_22_33_44_55_66",
        "username": "eyJpcCI6ICJ1bmtub3duIn0=",
        "password": "4xrXai1l6wshSfWITmYW0RNmSbGh+Mqfa1lQ2Yff79U=",
        "publish_topic": "device-server",
        "subscribe_topic": "devices/p2p/11_22_33_44_55_66",
    }


def test_mqtt_password_goes_to_admitted_devices_only() -> None:
    """It is as good as a token."""
    assert reply.mqtt_section(GATEWAY, DEVICE, "m", trusted=False)["password"] == ""
    assert "password" not in reply.mqtt_section(GATEWAY, DEVICE, "m", trusted=None)
    unsigned = reply.MqttGateway("10.0.0.1:1883", "")
    assert reply.mqtt_section(unsigned, DEVICE, "m", trusted=True)["password"] == ""


@given(st.text(max_size=64), st.text(max_size=64), st.sampled_from([True, False, None]))
def test_stored_sections_hold_nothing_that_aborts_the_device(device: str, model: str, trusted: bool | None) -> None:
    """Keys of at most 15 characters and strings of at most 3,999 bytes, else writing them to flash aborts."""
    assert section_is_bearable(reply.mqtt_section(GATEWAY, device, model, trusted=trusted))
    assert section_is_bearable(reply.websocket_section("ws://box:8000/xiaozhi/v1/", "t" * 60))


@pytest.mark.parametrize(
    ("host", "secure", "url"),
    [
        (HostPort("192.168.1.5", 8003), False, "ws://192.168.1.5:8000/xiaozhi/v1/"),
        (HostPort("[fd00::5]", 8003), False, "ws://[fd00::5]:8000/xiaozhi/v1/"),
        (HostPort("box.local"), False, "ws://box.local:8000/xiaozhi/v1/"),
        (HostPort("voice.example"), True, "wss://voice.example/xiaozhi/v1/"),
        (HostPort("voice.example", 8443), True, "wss://voice.example:8443/xiaozhi/v1/"),
    ],
)
def test_websocket_url_is_the_called_host_on_the_routers_port(host: HostPort, secure: bool, url: str) -> None:
    """The device can reach the host it has just reached."""
    assert reply.websocket_url(host, 8000, secure=secure) == url


def test_token_is_left_out_or_cleared() -> None:
    """An absent token leaves the device's own alone, an empty one clears it."""
    assert reply.websocket_section("ws://x/", None) == {"url": "ws://x/"}
    assert reply.websocket_section("ws://x/", "") == {"url": "ws://x/", "token": ""}


def test_own_version_is_echoed_with_an_empty_url() -> None:
    """A newer version with an empty url would be a failing upgrade at each boot."""
    assert reply.echo_section("2.4.2") == {"version": "2.4.2", "url": ""}


@pytest.mark.parametrize("version", ["v1.2", "1.x", "", "dev"])
def test_firmware_is_left_out_if_the_version_is_not_digits_and_dots(version: str) -> None:
    """The device would abort on its own version."""
    assert reply.echo_section(version) is None


def test_time_is_in_ms_and_the_offset_in_minutes() -> None:
    """The device adds the two."""
    assert reply.time_section(1_723_000_000.5, 5.5) == {"timestamp": 1_723_000_000_500, "timezone_offset": 330}


def test_activation_shows_the_command_that_approves() -> None:
    """The device speaks the code and shows the message; the challenge makes it poll."""
    section = reply.activation_section(WaitingRequest("aa", "one", "042137", "c0ffee", 1))
    assert section == {"code": "042137", "message": "xiaozhi devices approve 042137", "challenge": "c0ffee"}
    assert re.fullmatch(r"[0-9]{6}", section["code"])


def test_download_url_is_beside_the_vision_address_if_that_is_configured() -> None:
    """As today's server builds it, else from the called host and port."""
    host = HostPort("192.168.1.5", 8003)
    assert reply.download_url(host, "a_1.bin") == "http://192.168.1.5:8003/xiaozhi/ota/download/a_1.bin"
    assert reply.download_url(host, "a_1.bin", vision_url="http://pub:9/mcp/vision/explain") == (
        "http://pub:9/xiaozhi/ota/download/a_1.bin"
    )
    assert reply.download_url(HostPort("v.example"), "a_1.bin", secure=True).startswith("https://v.example/")
