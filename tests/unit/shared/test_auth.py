"""Device tokens and the decision whether a device may connect."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.identity.auth import (
    MAX_FUTURE_S,
    AuthReason,
    AuthResult,
    authorise,
    bearer_token,
    check_token,
    clean_client_id,
    clean_device_id,
    make_token,
)
from shared.identity.enrol import DeviceRecord, DeviceState
from shared.settings import AuthSettings

pytestmark = pytest.mark.unit

KEY, CLIENT, DEVICE, NOW_S = "test-secret", "client-1", "11:22:33:44:55:66", 1_723_000_000
VECTOR = "J5UyUYozNmXnj8f27Ky_l3bUfQCGmg2qPBQOUvNFeWA.1723000000"
PRINTABLE = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x4FF, exclude_categories=("C", "Z")), min_size=1, max_size=64
)


class Book:
    """A registry that counts how often it is asked."""

    def __init__(self, *records: DeviceRecord) -> None:
        self._records = {record.device: record for record in records}
        self.lookups = 0

    def lookup(self, device: str) -> DeviceRecord | None:
        self.lookups += 1
        return self._records.get(device)


def settings(**changes: object) -> AuthSettings:
    return AuthSettings(key=KEY).model_copy(update=changes)


def enrolled(client: str = CLIENT, **changes: object) -> DeviceRecord:
    record = DeviceRecord(DEVICE, DeviceState.ENROLLED, client)
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def check(token: str, *, client: str = CLIENT, now_s: float = NOW_S, book: Book | None = None) -> AuthReason:
    return check_token(KEY, token, client, DEVICE, now_s=now_s, expire_s=3600, registry=book).reason


def ask(
    authorization: str | None = f"Bearer {VECTOR}",
    *,
    auth: AuthSettings | None = None,
    device: str | None = DEVICE,
    client: str | None = CLIENT,
    book: Book | None = None,
) -> AuthResult:
    return authorise(auth or settings(), device, client, authorization, now_s=NOW_S, registry=book or Book())


def test_token_has_the_format_of_todays_server() -> None:
    """A token is base64url(HMAC-SHA256(key, "client|device|ts")) without padding, a dot, and ts."""
    assert make_token(KEY, CLIENT, DEVICE, NOW_S + 0.9) == VECTOR
    assert check(VECTOR) is AuthReason.TOKEN


@given(PRINTABLE, PRINTABLE, st.integers(0, 10**11))
def test_every_token_made_is_accepted_at_once(client: str, device: str, now_s: int) -> None:
    """What one process signs, another accepts, for any printable ids."""
    client = client.replace("|", "-")
    token = make_token(KEY, client, device, now_s)
    assert check_token(KEY, token, client, device, now_s=now_s, expire_s=0).accepted


@given(st.text(max_size=200))
def test_no_other_text_is_accepted(token: str) -> None:
    """Whatever text is sent as a token is refused with a reason and never raises."""
    assert check(token) in {AuthReason.MISSING, AuthReason.MALFORMED, AuthReason.BAD_SIGNATURE}


@pytest.mark.parametrize(
    "token",
    [
        "x",
        ".",
        "None",
        "abc.",
        ".1723000000",
        "abc.12a",
        "abc.-1",
        "abc.1723000000 ",
        "a" * 120 + ".1723000000",
        "é.1723000000",
        "abc.١٢٣",
        f"abc.{'9' * 13}",
    ],
)
def test_malformed_token_is_named_so(token: str) -> None:
    """A token without signature, dot and decimal seconds is malformed."""
    assert check(token) is AuthReason.MALFORMED


def test_seconds_are_signed_as_written() -> None:
    """Another spelling of the same time does not fit the signature."""
    assert check(VECTOR.replace(".1723000000", ".01723000000")) is AuthReason.BAD_SIGNATURE


def test_token_of_another_client_or_device_has_a_bad_signature() -> None:
    """Both ids are signed."""
    assert check(VECTOR, client="client-2") is AuthReason.BAD_SIGNATURE
    other = check_token(KEY, VECTOR, CLIENT, "11:22:33:44:55:67", now_s=NOW_S, expire_s=3600)
    assert other.reason is AuthReason.BAD_SIGNATURE


def test_token_expires() -> None:
    """A token is good for expire_s, that second included."""
    assert check(VECTOR, now_s=NOW_S + 3600) is AuthReason.TOKEN
    assert check(VECTOR, now_s=NOW_S + 3601) is AuthReason.EXPIRED


def test_token_from_the_future_is_refused() -> None:
    """Five minutes ahead is another machine's clock, more is a forgery or a broken clock."""
    assert check(VECTOR, now_s=NOW_S - MAX_FUTURE_S) is AuthReason.TOKEN
    assert check(VECTOR, now_s=NOW_S - MAX_FUTURE_S - 1) is AuthReason.FUTURE


def test_bar_cannot_move_between_client_and_device() -> None:
    """ "a|b" + "c" and "a" + "b|c" sign the same text, so a client-id with a bar is never accepted."""
    token = make_token(KEY, "a", "b|c", NOW_S)
    assert check_token(KEY, token, "a", "b|c", now_s=NOW_S, expire_s=1).accepted
    assert check_token(KEY, token, "a|b", "c", now_s=NOW_S, expire_s=1).reason is AuthReason.MALFORMED
    assert clean_client_id("a|b") is None


def test_revoked_device_is_refused_with_any_token() -> None:
    """A revoked device stays out, however new its token."""
    book = Book(enrolled(state=DeviceState.REVOKED, refused_before_s=NOW_S - 100))
    assert check(VECTOR, book=book) is AuthReason.REVOKED


def test_tokens_issued_before_a_revocation_stay_dead() -> None:
    """Approving a revoked device again does not revive its old tokens; a newer one works."""
    assert check(VECTOR, book=Book(enrolled(refused_before_s=NOW_S + 1))) is AuthReason.REVOKED
    assert check(VECTOR, book=Book(enrolled(refused_before_s=NOW_S))) is AuthReason.TOKEN


def test_token_of_a_client_that_is_no_longer_the_remembered_one_is_refused() -> None:
    """After the device was forgotten and enrolled with another client-id, the first one's token is dead."""
    assert check(VECTOR, book=Book(enrolled("client-2"))) is AuthReason.WRONG_CLIENT


def test_good_token_of_an_unknown_device_is_accepted() -> None:
    """Tokens that today's server signed with the same key keep working."""
    assert ask().reason is AuthReason.TOKEN


def test_stranger_costs_no_lookup() -> None:
    """The registry is read only behind a good signature."""
    book = Book()
    for authorization in (None, "Bearer x", f"Bearer {VECTOR[1:]}"):
        assert not ask(authorization, book=book).accepted
    assert book.lookups == 0


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic abc", VECTOR])
def test_missing_token_is_named_so(authorization: str | None) -> None:
    """Without a Bearer token there is nothing to check."""
    assert ask(authorization).reason is AuthReason.MISSING


def test_literal_none_is_malformed() -> None:
    """py-xiaozhi sends `Bearer None` when it has no token."""
    assert ask("Bearer None").reason is AuthReason.MALFORMED


def test_bearer_is_read_without_regard_to_case() -> None:
    """The scheme's case does not matter."""
    assert bearer_token("bearer abc") == bearer_token(" Bearer  abc ") == "abc"


@pytest.mark.parametrize("device", [None, "", "  ", "a" * 65, "a\nb", "a\x00", "\udcff\udcfe", "\ud800"])
def test_device_id_must_be_printable_and_short(device: str | None) -> None:
    """A device-id is 1 to 64 printable characters, also when authentication is off."""
    assert ask(device=device).reason is AuthReason.BAD_DEVICE_ID
    assert ask(device=device, auth=settings(enabled=False)).reason is AuthReason.BAD_DEVICE_ID


@given(PRINTABLE)
def test_every_printable_device_id_is_one(device: str) -> None:
    """Nothing but length and printability is asked, and header decodings of one id agree."""
    assert clean_device_id(device) == device
    assert clean_device_id(device.encode().decode("ascii", "surrogateescape")) == device


def test_disabled_accepts_every_device_without_a_token() -> None:
    """`enabled: false` is honoured."""
    assert ask(None, auth=settings(enabled=False)).reason is AuthReason.DISABLED


def test_listed_device_needs_no_token_until_it_has_one() -> None:
    """The list lets a device in by its id, until a client-id is remembered for it."""
    auth = settings(allowed_devices=(DEVICE,))
    assert ask(None, auth=auth).reason is AuthReason.LISTED
    assert ask(None, auth=auth, book=Book(DeviceRecord(DEVICE, DeviceState.APPROVED))).reason is AuthReason.LISTED
    assert ask(None, auth=auth, book=Book(enrolled())).reason is AuthReason.MISSING
    assert ask(auth=auth, book=Book(enrolled())).reason is AuthReason.TOKEN


def test_listed_device_can_be_revoked() -> None:
    """A revocation is stronger than the list."""
    revoked = Book(DeviceRecord(DEVICE, DeviceState.REVOKED))
    assert ask(None, auth=settings(allowed_devices=(DEVICE,)), book=revoked).reason is AuthReason.REVOKED


def test_allowlist_refuses_others_even_with_a_token() -> None:
    """Taken off the list, a device is out at once."""
    auth = settings(enroll="allowlist", allowed_devices=("other",))
    assert ask(auth=auth, book=Book(enrolled())).reason is AuthReason.NOT_LISTED


def test_reasons_hold_no_token() -> None:
    """What is logged and counted of a refusal is one of a few fixed words."""
    assert VECTOR not in repr(ask(f"Bearer {VECTOR}x"))


def test_signature_is_what_the_definition_says() -> None:
    """The definition, written out a second time."""
    signature = hmac.new(b"k", b"c|d|7", hashlib.sha256).digest()
    assert make_token("k", "c", "d", 7) == base64.urlsafe_b64encode(signature).decode().rstrip("=") + ".7"
