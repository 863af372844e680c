"""Echo guard, manners, identity."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers

from router.device.identity import identify
from router.device.manners import BURST_MESSAGES, Manners
from router.talk.echo import is_echo
from router.wire import Framing

pytestmark = pytest.mark.unit

SAID = "It is half past three. Would you like to hear a story about a lighthouse?"


@pytest.mark.parametrize(
    ("heard", "echo"),
    [
        ("half past three", True),
        ("It is half past three, would you", True),
        ("hear a story about a light house", True),
        ("what is the weather like", False),
        ("stop", False),
        ("no", False),
        ("", False),
        ("play some music instead please", False),
    ],
)
def test_only_the_devices_own_words_are_an_echo(heard: str, echo: bool) -> None:
    """A transcript that is found in what is being spoken is dropped; anything else is meant."""
    assert is_echo(heard, SAID) is echo


def test_chinese_echo_is_found_without_spaces() -> None:
    """Letters are compared, not words."""
    assert is_echo("现在是三点半", "现在是下午三点半，你想听故事吗")
    assert not is_echo("停下来别说了", "现在是下午三点半，你想听故事吗")


def test_nothing_said_is_no_echo() -> None:
    """With a silent mouth every transcript is meant."""
    assert not is_echo("half past three", "")


def test_a_burst_is_normal_and_a_flood_is_limited() -> None:
    """40 malformed messages at once are let through, then ten a second."""
    manners = Manners(0.0)
    for _ in range(BURST_MESSAGES):
        assert not manners.limited(0.0)
        manners.offend(0.0)
    assert manners.limited(0.0)
    assert not manners.limited(0.1)


def test_a_thousand_messages_a_second_are_a_flood() -> None:
    """Any kind of message counts; the fastest device, with frames of 20 ms after a stall, is far below it."""

    def send(manners: Manners, messages: int, per_s: float) -> int:
        """How many pass until it is a flood."""
        for number in range(messages):
            manners.messages += 1
            if manners.messages > manners.quota and manners.floods(number / per_s):
                return number
        return messages

    assert send(Manners(0.0), 10_000, 1_001.0) < 2_500
    assert send(Manners(0.0), 10_000, 999.0) == 10_000


def test_valid_messages_cost_nothing() -> None:
    """Asking whether a device is limited does not use a token."""
    manners = Manners(0.0)
    assert not any(manners.limited(0.0) for _ in range(1000))


def test_identity_comes_from_headers_first() -> None:
    """A device-id header makes the query's ids void."""
    headers = Headers({"Device-Id": "aa:bb", "Client-Id": "c", "Authorization": "Bearer t", "Protocol-Version": "3"})
    identity = identify("/xiaozhi/v1/?device-id=zz&client-id=yy", headers, "10.0.0.9")
    assert (identity.device, identity.client, identity.authorization) == ("aa:bb", "c", "Bearer t")
    assert identity.framing(None) == Framing.V3


def test_identity_falls_back_to_the_query_string() -> None:
    """Browsers cannot set headers on a WebSocket."""
    identity = identify("/?device-id=aa%3Abb&client-id=c&authorization=Bearer+tok", Headers(), "10.0.0.9")
    assert (identity.device, identity.client, identity.authorization) == ("aa:bb", "c", "Bearer tok")


def test_no_device_id_anywhere_is_none() -> None:
    """Who does not say who it is is nobody."""
    assert identify("/", Headers(), "x").device is None


@pytest.mark.parametrize("query", ["?from=mqtt_gateway", "?a=b&from=mqtt_gateway", "?from=mqtt_gateway&x=1"])
def test_the_gateway_says_so_anywhere_in_the_query(query: str) -> None:
    """Other query parameters do not hide it."""
    assert identify(f"/xiaozhi/v1/{query}", Headers(), "x").framing(3) == Framing.GATEWAY


@pytest.mark.parametrize(("header", "hello", "framing"), [("2", 1, 2), ("", 3, 3), ("9", None, 1), ("x", 7, 1)])
def test_the_framing_is_the_headers_then_the_hellos(header: str, hello: int | None, framing: int) -> None:
    """Protocol-Version wins over hello.version; anything unknown is version 1."""
    assert identify("/", Headers({"Protocol-Version": header}), "x").framing(hello) == framing
