"""Where a request comes from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from router.web.caller import Caller, Neighbourhood, identify, parse_address, parse_host, parse_networks

pytestmark = pytest.mark.unit

HERE = Neighbourhood(
    trusted_proxies=parse_networks(["10.9.0.0/16", "::1"]),
    allowed_origins=frozenset({"https://console.example"}),
    own_names=frozenset({"voicebox", "voicebox.local"}),
)


def caller(peer: str | None = "192.168.1.20", around: Neighbourhood = HERE, **headers: str) -> Caller:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    named.setdefault("Host", "192.168.1.5:8003")
    return identify(peer, named, around, own=("192.168.1.5", 8003))


@pytest.mark.parametrize(
    "peer",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.3.4",
        "::1",
        "fd00::5",
        "fe80::1%eth0",
        "::ffff:192.168.1.9",
    ],
)
def test_loopback_private_and_link_local_addresses_are_lan(peer: str) -> None:
    """Both address families, and IPv4 written as IPv6."""
    assert caller(peer).is_lan


@pytest.mark.parametrize(
    "peer",
    ["8.8.8.8", "172.32.0.1", "100.64.0.1", "192.0.2.1", "2001:db8::1", "2a00::1", "::ffff:8.8.8.8", "", None, "x"],
)
def test_everything_else_is_not(peer: str | None) -> None:
    """Public, carrier, documentation addresses and no address at all."""
    assert not caller(peer).is_lan


@pytest.mark.parametrize(
    "header", ["X_Forwarded_For", "Forwarded", "X_Real_IP", "x_forwarded_for", "X_Forwarded_Host", "Via"]
)
def test_forwarding_header_of_an_untrusted_peer_is_never_lan(header: str) -> None:
    """Some proxy relays it, and nobody knows for whom: whatever address it names."""
    for value in ("192.168.1.7", "for=192.168.1.7", "127.0.0.1", ""):
        assert not caller("192.168.1.20", **{header: value}).is_lan
        assert not caller("127.0.0.1", **{header: value}).is_lan


@pytest.mark.parametrize(
    ("headers", "address", "is_lan"),
    [
        ({"X_Forwarded_For": "192.168.1.7"}, "192.168.1.7", True),
        ({"X_Forwarded_For": "8.8.8.8"}, "8.8.8.8", False),
        ({"X_Forwarded_For": "192.168.1.7, 8.8.8.8"}, "8.8.8.8", False),
        ({"X_Forwarded_For": "8.8.8.8, 192.168.1.7, 10.9.1.1"}, "192.168.1.7", True),
        ({"X_Forwarded_For": "unknown"}, None, False),
        ({"Forwarded": 'for=8.8.8.8;proto=https, for="[fd00::7]:80"'}, "fd00::7", True),
        ({"X_Real_IP": "192.168.1.8:5000"}, "192.168.1.8", True),
        ({"X_Forwarded_Proto": "http"}, None, False),
        ({}, "10.9.0.1", True),
    ],
)
def test_trusted_proxy_names_the_caller(headers: dict[str, str], address: str | None, is_lan: bool) -> None:
    """The nearest address that is no trusted proxy counts; what stands before it may be made up."""
    found = caller("10.9.0.1", **headers)
    assert (str(found.address) if found.address else None, found.is_lan) == (address, is_lan)


def test_line_that_the_proxy_adds_below_the_callers_counts() -> None:
    """A caller behind such a proxy cannot make itself a neighbour with a line of its own."""
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        prefix = "for=" if header == "Forwarded" else ""
        lines = CIMultiDict([(header, f"{prefix}192.168.1.7"), (header, f"{prefix}8.8.8.8")])
        assert not identify("10.9.0.1", lines, HERE).is_lan
        lines = CIMultiDict([(header, f"{prefix}8.8.8.8"), (header, f"{prefix}192.168.1.7")])
        assert identify("10.9.0.1", lines, HERE).is_lan


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:8006",
        "http://127.0.0.1:8006",
        "http://[::1]:8006",
        "http://192.168.1.5",
        "http://192.168.1.5:8001",
        "https://console.example",
        "https://Console.example/",
    ],
)
def test_page_of_this_machine_of_the_called_host_or_allowed_is_lan(origin: str) -> None:
    """The test page, the console on another port, and what the operator lists."""
    assert caller(Origin=origin).is_lan


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://192.168.1.6", "null", "", "http://localhost.evil.example", "http://[x", "//"],
)
def test_page_from_elsewhere_is_not_lan(origin: str) -> None:
    """A page on the internet, opened in a browser at home, must not fetch a token."""
    assert not caller(Origin=origin).is_lan


def test_name_that_is_not_this_servers_is_not_the_called_host() -> None:
    """A stranger's name that resolves to this address (DNS rebinding) matches its own Host header, and is refused."""
    assert not caller(Origin="http://evil.example:8003", Host="evil.example:8003").is_lan
    assert caller(Origin="http://voicebox.local:8003", Host="voicebox.local:8003").is_lan


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.168.1.5:8003", "192.168.1.5:8003"),
        ("box", "box"),
        ("[fd00::5]:8003", "[fd00::5]:8003"),
        ("[::1]", "[::1]"),
        ("a b", None),
        ("box:0", None),
        ("box:70000", None),
        ("evil/path", None),
        ("user@box", None),
        ("", None),
        (None, None),
    ],
)
def test_host_is_used_only_if_it_fits_in_a_url(text: str | None, shown: str | None) -> None:
    """It goes into an address that is stored in a device's flash."""
    host = parse_host(text)
    assert (str(host) if host else None) == shown


def test_unusable_host_is_replaced_by_the_address_of_the_connection() -> None:
    """HTTP/1.0 knows no Host."""
    assert str(caller(Host="a b").host) == "192.168.1.5:8003"
    assert str(identify("fd00::7", CIMultiDict(), HERE, own=("fd00::5", 8003)).host) == "[fd00::5]:8003"


def test_forwarded_host_and_scheme_are_believed_from_a_trusted_proxy_only() -> None:
    """Anybody else could have a device store a stranger's address."""
    headers = {"X_Forwarded_Host": "voice.example", "X_Forwarded_Proto": "https", "X_Forwarded_For": "8.8.8.8"}
    trusted, stranger = caller("10.9.0.1", **headers), caller("192.168.1.20", **headers)
    assert (str(trusted.host), trusted.secure) == ("voice.example", True)
    assert (str(stranger.host), stranger.secure) == ("192.168.1.5:8003", False)
    rfc7239 = caller("10.9.0.1", Forwarded='for=8.8.8.8;host="voice.example";proto=https')
    assert (str(rfc7239.host), rfc7239.secure) == ("voice.example", True)


@given(st.dictionaries(st.sampled_from(["Forwarded", "X_Forwarded_For", "X_Real_IP", "Host", "Origin"]), st.text()))
def test_headers_of_any_shape_never_raise(headers: dict[str, str]) -> None:
    """And no text makes a stranger's request a local one."""
    assert not caller("8.8.8.8", **headers).is_lan
    caller("10.9.0.1", **headers)


def test_addresses_are_read_with_port_brackets_scope_and_quotes() -> None:
    """As proxies write them."""
    assert str(parse_address('"[2001:db8::1]:443"')) == "2001:db8::1"
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
    assert str(parse_address("192.168.1.2:99")) == "192.168.1.2"
    assert parse_address("192.168.1") is None
