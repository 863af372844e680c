"""What a device reads over HTTP from a real web process, fact by fact."""

from __future__ import annotations

import hmac
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.load import load
from shared.identity.auth import AuthReason, authorise
from shared.identity.devices import DeviceReader, DeviceRegistry, devices_path
from tests.fakes.web_server import Reply, WebServer, web_server

pytestmark = pytest.mark.process

OTA = "/xiaozhi/ota/"
ACTIVATE = "/xiaozhi/ota/activate"
BODY = json.dumps(
    {
        "version": 2,
        "language": "zh-CN",
        "minimum_free_heap_size": "8318916",
        "mac_address": "aa:bb",
        "application": {"name": "xiaozhi", "version": "2.4.2"},
        "partition_table": [{"label": "nvs", "type": 1}],
        "board": {"type": "esp-box", "ip": "192.168.1.20"},
    }
)
_numbers = itertools.count(1)


def new_device() -> str:
    """A device-id that no test has used."""
    return f"02:00:00:00:00:{next(_numbers):02x}"


def ids(device: str, client: str = "client-1") -> dict[str, str]:
    return {"Device-Id": device, "Client-Id": client}


def boot(server: WebServer, device: str, client: str = "client-1", body: str = BODY, **headers: str) -> dict[str, Any]:
    """The parsed answer to a device's boot request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = server.ask("POST", OTA, ids(device, client) | named, body)
    assert reply.status == 200
    answer: dict[str, Any] = reply.json()
    return answer


def token_of(answer: dict[str, Any]) -> str:
    token: str = answer["websocket"].get("token", "")
    return token


def door(server: WebServer, device: str, client: str, token: str) -> AuthReason:
    """What the router, another process with the same configuration and data, says to this token."""
    settings = load({"XZ_DATA_DIR": str(server.data_dir)})
    reader = DeviceReader.open(devices_path(server.data_dir))
    try:
        header = f"Bearer {token}" if token else None
        return authorise(settings.auth, device, client, header, now_s=time.time(), registry=reader).reason
    finally:
        reader.close()


def operator(server: WebServer) -> DeviceRegistry:
    """What `xiaozhi devices` works on."""
    return DeviceRegistry.open(devices_path(server.data_dir))


def now_s() -> int:
    return int(time.time())


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The default configuration."""
    with web_server(tmp_path_factory.mktemp("lan"), XZ_WS_PORT="8123") as server:
        yield server


@pytest.fixture(scope="module")
def activation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("act"), {"server": {"auth": {"enroll": "activation"}}}) as server:
        yield server


# The shape of the answer


def test_stored_keys_are_at_most_15_characters(lan: WebServer) -> None:
    """A longer key in `websocket` aborts the device at each boot: ESP_ERROR_CHECK(nvs_set_*) in main/settings.cc."""
    section = boot(lan, new_device())["websocket"]
    assert set(section) == {"url", "token"}
    assert all(len(key) <= 15 and len(value.encode()) <= 3999 for key, value in section.items())


def test_own_version_is_echoed_with_an_empty_url(lan: WebServer) -> None:
    """std::stoi on the version's parts has no catch, and any url with a newer version is installed (main/ota.cc)."""
    assert boot(lan, new_device())["firmware"] == {"version": "2.4.2", "url": ""}


@pytest.mark.parametrize("version", ["v1.2", "1.x", "dev"])
def test_firmware_is_left_out_if_the_version_is_not_digits_and_dots(lan: WebServer, version: str) -> None:
    """Even its own version would abort such a device."""
    body = json.dumps({"application": {"version": version}})
    assert "firmware" not in boot(lan, new_device(), body=body)


def test_there_is_no_mqtt_object_unless_configured(lan: WebServer) -> None:
    """Its mere presence, even empty, makes the device ignore `websocket` (main/application.cc)."""
    assert set(boot(lan, new_device())) == {"server_time", "firmware", "websocket"}


def test_websocket_version_is_not_sent_as_a_string(lan: WebServer) -> None:
    """A string would be stored under another type and ignored; absent, the device uses version 1."""
    assert not isinstance(boot(lan, new_device())["websocket"].get("version"), str)


def test_url_is_unencrypted_and_on_the_called_host(lan: WebServer) -> None:
    """The device trusts public authorities only, so on a LAN it needs ws://; its Host may come without a port."""
    for host in ("192.168.1.5:8003", "192.168.1.5"):
        assert boot(lan, new_device(), Host=host)["websocket"]["url"] == "ws://192.168.1.5:8123/xiaozhi/v1/"
    assert boot(lan, new_device(), Host="[fd00::5]:8003")["websocket"]["url"] == "ws://[fd00::5]:8123/xiaozhi/v1/"


def test_unusable_or_missing_host_gives_the_connections_own_address(lan: WebServer) -> None:
    """Whatever is stored in the device must be a URL."""
    assert boot(lan, new_device(), Host="a b")["websocket"]["url"] == "ws://127.0.0.1:8123/xiaozhi/v1/"
    head = f"POST {OTA} HTTP/1.0\r\nDevice-Id: {new_device()}\r\nClient-Id: c\r\nContent-Length: 2\r\n\r\n"
    assert b"ws://127.0.0.1:8123/xiaozhi/v1/" in lan.raw(head.encode() + b"{}")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", [OTA, OTA.rstrip("/"), ACTIVATE, ACTIVATE + "/"])
def test_answer_has_a_length_and_is_no_redirect(lan: WebServer, path: str, version: str) -> None:
    """The device takes exactly 200, follows nothing, and its chunk parser breaks on split CRLFs."""
    head = f"POST {path} HTTP/{version}\r\nHost: box\r\nDevice-Id: 02:aa\r\nClient-Id: c\r\nContent-Length: 2\r\n"
    answer = lan.raw(f"{head}Connection: close\r\n\r\n{{}}".encode())
    header, _, body = answer.partition(b"\r\n\r\n")
    status = header.split(b" ", 2)[1]
    assert status in ({b"200"} if "activate" not in path else {b"200", b"202"})
    assert b"content-length: %d" % len(body) in header.lower()
    assert body
    assert b"transfer-encoding" not in header.lower()


def test_time_is_in_ms_with_the_offset_in_minutes(lan: WebServer) -> None:
    """The device's clock is the sum of the two."""
    section = boot(lan, new_device())["server_time"]
    assert abs(section["timestamp"] / 1000 - time.time()) < 60
    assert section["timezone_offset"] == 480


def test_json_is_compact_and_in_todays_order(lan: WebServer) -> None:
    """Byte for byte what today's server sends, but for the values."""
    body = lan.ask("POST", OTA, ids(new_device()), BODY).body.decode()
    assert body.startswith('{"server_time":{"timestamp":')
    assert list(json.loads(body)) == ["server_time", "firmware", "websocket"]


def test_get_tells_people_the_websocket_address(lan: WebServer) -> None:
    """What today's users look at in a browser."""
    reply = lan.ask("GET", OTA, {"Host": "192.168.1.5:8003"})
    assert reply.status == 200
    assert reply.body.decode() == (
        "OTA接口运行正常，向设备发送的websocket地址是：ws://192.168.1.5:8123/xiaozhi/v1/"  # as today's server words it
    )
    assert lan.ask("GET", OTA.rstrip("/")).status == 200


def test_preflight_allows_pages_of_any_origin(lan: WebServer) -> None:
    """The browser test page asks with these headers."""
    for path in (OTA, OTA.rstrip("/"), ACTIVATE, "/xiaozhi/ota/download/a_1.bin"):
        reply = lan.ask("OPTIONS", path, {"Origin": "http://x", "Access-Control-Request-Method": "POST"})
        assert reply.status == 200
        assert reply.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert reply.headers["access-control-allow-headers"] == "client-id, content-type, device-id, authorization"
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["access-control-allow-credentials"] == "true"


# Bad input


@pytest.mark.parametrize(
    "headers",
    [{}, {"Device-Id": "aa"}, {"Client-Id": "c"}, {"Device-Id": "x" * 65, "Client-Id": "c"}, ids("aa", "a|b")],
)
def test_missing_or_unusable_ids_are_answered_as_today(lan: WebServer, headers: dict[str, str]) -> None:
    """Status 200, as old clients expect, with the error they know."""
    reply = lan.ask("POST", OTA, headers, BODY)
    assert (reply.status, reply.body) == (200, b'{"success":false,"message":"request error."}')


@pytest.mark.parametrize(
    "body", ["", "not json", "[]", "null", '{"application":7,"board":[1]}', "[" * 5000, "\xff\xfe"]
)
def test_body_of_any_shape_gets_its_answer(lan: WebServer, body: str) -> None:
    """A device without an answer would fall back to another server's MQTT."""
    answer = boot(lan, new_device(), body=body)
    assert answer["firmware"] == {"version": "0.0.0", "url": ""}
    assert token_of(answer)


def test_too_large_a_body_is_refused_with_a_reason(lan: WebServer) -> None:
    """64 KiB is forty times a real one."""
    reply = lan.ask("POST", OTA, ids(new_device()), b"x" * (64 * 1024 + 1))
    assert reply.status == 413
    assert reply.json()["success"] is False


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"POST " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n"],
)
def test_garbage_on_the_socket_harms_nobody(lan: WebServer, request_bytes: bytes) -> None:
    """It is answered 400 and closed, and the next device is served."""
    assert lan.raw(request_bytes + b"\r\n\r\n").startswith(b"HTTP/1.")
    assert token_of(boot(lan, new_device()))


def test_unknown_path_and_method_are_told_in_json(lan: WebServer) -> None:
    """A clear error for whoever mistypes the address."""
    assert lan.ask("GET", "/xiaozhi/ota/nothing").status == 404
    reply = lan.ask("PUT", OTA, ids(new_device()), BODY)
    assert (reply.status, reply.json()["success"]) == (405, False)


# Enrolment: lan


def test_token_opens_the_routers_door(lan: WebServer) -> None:
    """The web process signs what the router verifies, for this pair only."""
    device = new_device()
    token = token_of(boot(lan, device))
    assert door(lan, device, "client-1", token) is AuthReason.TOKEN
    assert door(lan, device, "client-2", token) is AuthReason.BAD_SIGNATURE
    assert door(lan, new_device(), "client-1", token) is AuthReason.BAD_SIGNATURE
    assert door(lan, device, "client-1", "") is AuthReason.MISSING


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "X_Real_IP"])
def test_forwarding_header_of_an_untrusted_peer_gets_no_token(lan: WebServer, header: str) -> None:
    """A tunnel on this machine makes the whole internet look like loopback."""
    for value in ("192.168.1.7", "for=127.0.0.1"):
        assert boot(lan, new_device(), **{header: value})["websocket"]["token"] == ""


def test_page_of_another_origin_gets_no_token(lan: WebServer) -> None:
    """A page on the internet, opened in a browser at home; pages of this machine are fine."""
    assert boot(lan, new_device(), Origin="https://evil.example")["websocket"]["token"] == ""
    assert boot(lan, new_device(), Origin="null")["websocket"]["token"] == ""
    assert token_of(boot(lan, new_device(), Origin="http://localhost:8006"))
    assert token_of(boot(lan, new_device(), Origin="http://192.168.1.5:8006", Host="192.168.1.5:8003"))


def test_known_device_away_from_home_is_not_told_to_drop_its_token(lan: WebServer) -> None:
    """It gets no new one, but an empty one would erase the good one from its flash."""
    device = new_device()
    assert token_of(boot(lan, device))
    assert "token" not in boot(lan, device, X_Forwarded_For="8.8.8.8")["websocket"]


def test_another_client_id_of_a_known_device_gets_no_token(lan: WebServer) -> None:
    """It is shown a code instead, and the operator may let it in, which locks the first one out."""
    device = new_device()
    first = token_of(boot(lan, device, "client-1"))
    answer = boot(lan, device, "client-2")
    assert answer["websocket"]["token"] == ""
    registry = operator(lan)
    registry.approve(answer["activation"]["code"], now_s())
    registry.close()
    second = boot(lan, device, "client-2")
    assert "activation" not in second
    assert door(lan, device, "client-2", token_of(second)) is AuthReason.TOKEN
    assert door(lan, device, "client-1", first) is AuthReason.WRONG_CLIENT
    assert boot(lan, device, "client-1")["websocket"]["token"] == ""


def test_forgotten_device_may_come_with_another_client_id(lan: WebServer) -> None:
    """Then the old token is dead at once, and the new one good at once."""
    device = new_device()
    first = token_of(boot(lan, device, "client-1"))
    registry = operator(lan)
    registry.forget(device, now_s())
    registry.close()
    assert door(lan, device, "client-1", first) is AuthReason.REVOKED
    assert door(lan, device, "client-2", token_of(boot(lan, device, "client-2"))) is AuthReason.TOKEN


def test_revoked_device_is_refused_until_it_is_approved(lan: WebServer) -> None:
    """Its token dies at once, it gets no other, and after the approval only a new one is good."""
    device = new_device()
    first = token_of(boot(lan, device))
    registry = operator(lan)
    registry.revoke(device, now_s())
    assert door(lan, device, "client-1", first) is AuthReason.REVOKED
    assert boot(lan, device)["websocket"]["token"] == ""
    registry.approve(device, now_s())
    registry.close()
    assert door(lan, device, "client-1", first) is AuthReason.REVOKED
    assert door(lan, device, "client-1", token_of(boot(lan, device))) is AuthReason.TOKEN


# Enrolment: activation


def answer_of(reply: Reply) -> tuple[int, bool]:
    assert reply.body, "an empty body stalls the device 30 s"
    return reply.status, reply.json()["success"]


@pytest.mark.parametrize("path", [ACTIVATE, ACTIVATE + "/"])
@pytest.mark.parametrize("shape", ["version 1", "version 2", "wrapped", "empty"])
def test_activation_from_code_to_token(activation: WebServer, shape: str, path: str) -> None:
    """Code shown, 202 while it waits, 200 once approved, then an answer with a token and without `activation`."""
    device = new_device()
    section = boot(activation, device)["activation"]
    challenge = section["challenge"]
    signed = {
        "algorithm": "hmac-sha256",
        "serial_number": "sn-1",
        "challenge": challenge,
        "hmac": hmac.digest(b"burnt into the chip", challenge.encode(), "sha256").hex(),
    }
    body = {"version 1": "{}", "version 2": json.dumps(signed), "wrapped": json.dumps({"Payload": signed}), "empty": ""}
    headers = ids(device) | {"Activation-Version": "1" if shape == "version 1" else "2", "Serial-Number": "sn-1"}
    assert answer_of(activation.ask("POST", path, headers, body[shape])) == (202, False)
    registry = operator(activation)
    registry.approve(section["code"], now_s())
    registry.close()
    assert answer_of(activation.ask("POST", path, headers, body[shape])) == (200, True)
    answer = boot(activation, device)
    assert "activation" not in answer
    assert door(activation, device, "client-1", token_of(answer)) is AuthReason.TOKEN


def test_code_is_stable_and_six_digits(activation: WebServer) -> None:
    """The device asks again after ten polls; whoever has read the code must not be sent away."""
    device = new_device()
    first, second = boot(activation, device), boot(activation, device)
    assert first["activation"] == second["activation"]
    assert first["websocket"]["token"] == ""
    assert len(first["activation"]["code"]) == 6
    assert first["activation"]["code"].isdigit()
    assert boot(activation, new_device())["activation"]["code"] != first["activation"]["code"]


def test_activation_of_strangers_and_without_ids_has_a_body(activation: WebServer) -> None:
    """202 for who never asked for a code, 400 for who does not say who it is."""
    assert answer_of(activation.ask("POST", ACTIVATE, ids(new_device()), "{}")) == (202, False)
    assert answer_of(activation.ask("POST", ACTIVATE, {}, "{}")) == (400, False)


def test_another_client_cannot_poll_for_an_approved_device(activation: WebServer) -> None:
    """The approval is for the pair."""
    device = new_device()
    registry = operator(activation)
    registry.approve(boot(activation, device)["activation"]["code"], now_s())
    registry.close()
    assert answer_of(activation.ask("POST", ACTIVATE, ids(device, "thief"), "{}")) == (202, False)


# Other configurations


def test_allowlist_serves_the_listed_only(tmp_path: Path) -> None:
    """Others get no token and no code, and no token of theirs is good."""
    listed, other = new_device(), new_device()
    auth = {"enroll": "allowlist", "allowed_devices": [listed]}
    with web_server(tmp_path, {"server": {"auth": auth}}) as server:
        assert door(server, listed, "client-1", token_of(boot(server, listed))) is AuthReason.TOKEN
        answer = boot(server, other)
        assert answer["websocket"]["token"] == ""
        assert "activation" not in answer
        assert door(server, other, "client-1", "") is AuthReason.NOT_LISTED


def test_open_serves_everybody_and_mqtt_replaces_websocket(tmp_path: Path) -> None:
    """A configured gateway is announced instead of the WebSocket, signed as it verifies."""
    config = {
        "server": {
            "auth": {"enroll": "open"},
            "mqtt_gateway": "10.0.0.1:1883",
            "mqtt_signature_key": "test-secret",
        }
    }
    with web_server(tmp_path, config) as server:
        body = json.dumps({"board": {"type": "bread-compact-wifi"}, "application": {"version": "2.4.2"}})
        answer = boot(server, "11:22:33:44:55:66", body=body, X_Forwarded_For="8.8.8.8")
        assert list(answer) == ["server_time", "firmware", "mqtt"]
        assert answer["mqtt"]["username"] == "eyJpcCI6ICJ1bmtub3duIn0="
        assert answer["mqtt"]["password"] == "4xrXai1l6wshSfWITmYW0RNmSbGh+Mqfa1lQ2Yff79U="
        assert all(len(key) <= 15 for key in answer["mqtt"])
        assert boot(server, "11:22:33:44:55:66", "other", body=body)["mqtt"]["password"] == ""


def test_disabled_authentication_gives_an_empty_token_and_a_warning(tmp_path: Path) -> None:
    """`enabled: false` is honoured, and said aloud."""
    with web_server(tmp_path, {"server": {"auth": {"enabled": False}}}) as server:
        answer = boot(server, new_device(), X_Forwarded_For="8.8.8.8", Origin="https://evil.example")
        assert answer["websocket"]["token"] == ""
        assert answer_of(server.ask("POST", ACTIVATE, ids(new_device()), "{}")) == (200, True)
        assert door(server, new_device(), "", "") is AuthReason.DISABLED
    assert "authentication_is_off" in server.errors


def test_trusted_proxy_and_configured_address(tmp_path: Path) -> None:
    """A trusted proxy's word counts for address, host and scheme; `server.websocket` is taken as it stands."""
    with web_server(tmp_path / "a", {"server": {"trusted_proxies": ["127.0.0.1"]}}) as server:
        home = {"X_Forwarded_For": "192.168.1.7", "X_Forwarded_Host": "voice.example", "X_Forwarded_Proto": "https"}
        answer = boot(server, new_device(), **home)
        assert token_of(answer)
        assert answer["websocket"]["url"] == "wss://voice.example/xiaozhi/v1/"
        assert boot(server, new_device(), X_Forwarded_For="8.8.8.8")["websocket"]["token"] == ""
    with web_server(tmp_path / "b", {"server": {"websocket": "wss://pub.example/xiaozhi/v1/"}}) as server:
        assert boot(server, new_device(), Host="box")["websocket"]["url"] == "wss://pub.example/xiaozhi/v1/"


# Firmware


def test_newer_firmware_is_offered_and_served(lan: WebServer) -> None:
    """The device downloads with 200 and a Content-Length, never chunked."""
    content = os.urandom(300_000)
    bin_dir = lan.data_dir / "bin"
    bin_dir.mkdir(exist_ok=True)
    bin_dir.joinpath("fw-board_2.5.0.bin").write_bytes(content)
    body = json.dumps({"board": {"type": "fw-board"}, "application": {"version": "2.4.2"}})
    with web_server(lan.root / "again", {"firmware_cache_ttl": 30}, XZ_DATA_DIR=str(lan.data_dir)) as server:
        host = f"127.0.0.1:{server.port}"
        offer = boot(server, new_device(), body=body, Host=host)["firmware"]
        assert offer == {"version": "2.5.0", "url": f"http://{host}/xiaozhi/ota/download/fw-board_2.5.0.bin"}
        reply = server.ask("GET", offer["url"].removeprefix(f"http://{host}"))
    assert (reply.status, reply.body == content) == (200, True)
    assert reply.headers["content-length"] == "300000"
    assert "transfer-encoding" not in reply.headers


@pytest.mark.parametrize(
    ("name", "status"),
    [("none_1.0.bin", 404), ("..%2f.config.yaml", 400), ("%2e%2e", 400), ("a.txt", 400), ("link_1.0.bin", 404)],
)
def test_nothing_but_firmware_files_is_served(lan: WebServer, name: str, status: int) -> None:
    """No other directory, no other kind of file, and no link that leads out."""
    (lan.data_dir / "bin").mkdir(exist_ok=True)
    link = lan.data_dir / "bin" / "link_1.0.bin"
    if not link.is_symlink():
        link.symlink_to(lan.data_dir / ".config.yaml")
    assert lan.ask("GET", f"/xiaozhi/ota/download/{name}").status == status
