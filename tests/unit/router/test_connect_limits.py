"""Who may connect: by room, by address, by device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.device.limits import MAX_ADDRESSES, Limits, RateTable
from router.device.neighbours import Neighbours
from shared.settings import AuthSettings, RouterSettings, Settings, WebSettings

pytestmark = pytest.mark.unit


def reason(refusal: object) -> str | None:
    return getattr(refusal, "reason", None)


def test_a_device_may_come_once_a_second_after_its_first_minute() -> None:
    """60 connections at once, then one a second; another device is not touched."""
    limits = Limits(RouterSettings())
    came = [limits.admit_device("a", 100.0 + number / 50) for number in range(500)]
    assert [refusal is None for refusal in came[:60]] == [True] * 60
    assert 9 <= sum(refusal is None for refusal in came[60:]) <= 10
    refused = next(refusal for refusal in came if refusal is not None)
    assert (refused.reason, refused.retry_after_s) == ("device_rate", 1)
    assert limits.admit_device("b", 110.0) is None


def test_a_router_has_room_for_so_many() -> None:
    """Exempt addresses count too; whoever leaves makes room."""
    limits = Limits(RouterSettings(max_devices=2))
    for address in ("", "192.0.2.1"):
        assert limits.admit_address(address, 1.0) is None
        limits.entered(address)
    assert reason(limits.admit_address("", 1.0)) == "router_full"
    limits.left("192.0.2.1")
    assert limits.admit_address("", 1.0) is None


def test_an_address_holds_and_begins_so_many() -> None:
    """Open connections and attempts are counted apart; an exempt address is never refused."""
    limits = Limits(RouterSettings(address_connections=2, address_connects_per_minute=4))
    for _ in range(2):
        assert limits.admit_address("192.0.2.1", 1.0) is None
        limits.entered("192.0.2.1")
        limits.entered("")
    assert reason(limits.admit_address("192.0.2.1", 1.0)) == "address_connections"
    limits.left("192.0.2.1")
    assert limits.admit_address("192.0.2.1", 1.0) is None
    assert limits.admit_address("192.0.2.1", 1.0) is None
    refused = limits.admit_address("192.0.2.1", 1.0)
    assert refused is not None and (refused.reason, refused.retry_after_s) == ("address_rate", 15)
    assert limits.admit_address("192.0.2.1", 16.0) is None
    assert all(limits.admit_address("", 1.0) is None for _ in range(100))


@given(comings=st.lists(st.tuples(st.integers(0, 30), st.floats(0.0, 5.0)), max_size=300))
def test_a_table_stays_within_its_bound(comings: list[tuple[int, float]]) -> None:
    """Who has not come for the longest time is forgotten first."""
    table, now, order = RateTable(per_minute=10, max_entries=8), 0.0, []
    for name, wait_s in comings:
        now += wait_s
        table.take(str(name), now)
        order = [each for each in order if each != str(name)] + [str(name)]
        assert list(table._buckets) == order[-8:]


def test_a_stranger_per_packet_leaves_the_tables_small() -> None:
    """A million addresses cost no more memory than MAX_ADDRESSES."""
    limits = Limits(RouterSettings())
    for number in range(MAX_ADDRESSES + 1000):
        assert limits.admit_address(str(number), 1.0) is None
    assert len(limits._address_rates) == MAX_ADDRESSES
    assert not limits._open


AROUND = Settings(
    auth=AuthSettings(trusted_proxies=("10.0.0.0/24",)),
    web=WebSettings(mqtt_gateway="192.0.2.7:1883"),
)


@pytest.mark.parametrize(
    ("peer", "headers", "address", "counted_as"),
    [
        ("198.51.100.4", [], "198.51.100.4", "198.51.100.4"),
        ("::ffff:198.51.100.4", [], "::ffff:198.51.100.4", "198.51.100.4"),
        ("198.51.100.4", [("X-Forwarded-For", "1.2.3.4")], "198.51.100.4", "198.51.100.4"),
        ("10.0.0.9", [("x-forwarded-for", "9.9.9.9, 1.2.3.4")], "1.2.3.4", "1.2.3.4"),
        ("10.0.0.9", [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-For", "1.2.3.4")], "1.2.3.4", "1.2.3.4"),
        ("10.0.0.9", [("X-Forwarded-For", "1.2.3.4, 10.0.0.8")], "1.2.3.4", "1.2.3.4"),
        ("10.0.0.9", [("Forwarded", 'for="[2001:db8::5]:4711"')], "2001:db8::5", "2001:db8::/64"),
        ("10.0.0.9", [], "10.0.0.9", ""),
        ("10.0.0.9", [("X-Forwarded-For", "nonsense")], "10.0.0.9", ""),
        ("127.0.0.1", [], "127.0.0.1", ""),
        ("::1", [], "::1", ""),
        ("192.0.2.7", [], "192.0.2.7", ""),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", [], "", ""),
    ],
)
def test_which_address_counts(peer: str, headers: list[tuple[str, str]], address: str, counted_as: str) -> None:
    """The peer, or what a trusted proxy forwards; this machine, the gateway and a silent proxy are exempt."""
    origin = Neighbours(AROUND).origin(peer, headers)
    assert (origin.address, origin.counted_as) == (address, counted_as)
