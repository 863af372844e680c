"""The frames of Volcengine's bidirectional synthesis, to the byte, and what a session makes of them."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, Kind, UpstreamError
from workers.tts.engines.huoshan_frames import Frame, MessageType, decode, finish_connection, start_connection
from workers.tts.engines.huoshan_protocol import MAX_PIECE_CHARS, Session, Wishes

pytestmark = pytest.mark.unit

SESSION = "0123456789abcdef0123456789abcdef"
S = "00000020" + SESSION.encode().hex()
WISHES = Wishes("somebody", {"format": "pcm", "sample_rate": 24_000})


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def told(event: int, body: Any = None, *, session: str = SESSION, head: str = "11941000") -> Frame:
    payload = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return decode(hexed(head) + struct.pack(">i", event) + sized(session.encode()) + sized(payload))


def sound(pcm: bytes, session: str = SESSION) -> Frame:
    return told(352, pcm, session=session, head="11b41000")


def failure(frame: Frame, session: Session | None = None) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        (session or Session(SESSION)).take(frame)
    return caught.value


# What goes out


def test_the_frames_without_content_are_exact() -> None:
    """Byte for byte as the service and its own clients write them."""
    session = Session(SESSION)
    assert list(session.text("", WISHES)) == [hexed(f"11141000 00000066 {S} 00000002 7b7d")]
    assert session.cancel() == hexed(f"11141000 00000065 {S} 00000002 7b7d")
    assert finish_connection() == hexed("11141000 00000002 00000002 7b7d")
    assert start_connection() == hexed("11141000 00000001 00000002 7b7d")


def test_a_session_begins_with_how_it_is_to_sound() -> None:
    """Everything that the configuration decides goes with StartSession, the additions as a text of JSON."""
    wishes = Wishes("somebody", {"format": "pcm"}, {"post_process": {"pitch": 3}}, {"speakers": []})
    frame = Session(SESSION).opening(wishes)
    head = hexed(f"11141000 00000064 {S}")
    assert frame.startswith(head)
    request = json.loads(frame[len(head) + 4 :])
    assert (request["event"], request["namespace"]) == (100, "BidirectionalTTS")
    assert request["req_params"] == {
        "speaker": "somebody",
        "audio_params": {"format": "pcm"},
        "additions": '{"post_process": {"pitch": 3}}',
        "mix_speaker": {"speakers": []},
    }


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=5000))
def test_a_text_goes_out_whole_in_pieces_that_the_service_takes(text: str) -> None:
    """Nothing is lost or added at the cuts, and the end follows at once."""
    *requests, end = Session(SESSION).text(text, WISHES)
    head = hexed(f"11141000 000000c8 {S}")
    assert all(request.startswith(head) for request in requests)
    pieces = [json.loads(request[len(head) + 4 :])["req_params"]["text"] for request in requests]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= MAX_PIECE_CHARS
    assert end == hexed(f"11141000 00000066 {S} 00000002 7b7d")


# What comes in


def test_the_frames_that_come_are_read() -> None:
    """SessionStarted and a sound, byte for byte."""
    assert decode(hexed(f"11941000 00000096 {S} 00000002 7b7d")) == Frame(MessageType.RESPONSE, 150, SESSION, b"{}")
    heard = decode(hexed(f"11b41000 00000160 {S} 00000004 00000100"))
    assert heard == Frame(MessageType.SOUND, 352, SESSION, b"\x00\x00\x01\x00")


def test_a_connections_frames_come_with_an_id_a_payload_or_both() -> None:
    """The service writes ConnectionStarted and ConnectionFailed in more than one way."""
    assert decode(hexed("11941000 00000032 00000003") + b"abc").id == "abc"
    assert decode(hexed("11941000 00000032 00000003") + b"abc" + sized(b"{}")).id == "abc"
    for body in (sized(b"abc") + sized(b'{"status_code": 45000010}'), sized(b'{"status_code": 45000010}')):
        error = failure(decode(hexed("11941000 00000033") + body))
        assert (error.code, error.kind, error.reason) == (Code.AUTH, Kind.FATAL, "45000010")


def test_an_error_frame_is_read_with_and_without_a_length() -> None:
    """Its code decides, whichever way its message is written."""
    message = b'{"error": "server error"}'
    for body in (sized(message), message):
        frame = decode(hexed("11f01000") + struct.pack(">i", 55000000) + body)
        assert (frame.error_code, frame.payload) == (55000000, message)
        assert failure(frame).reason == "55000000"


def test_a_compressed_payload_is_read() -> None:
    """We ask for none, but the header may say that there is one."""
    packed = gzip.compress(b'{"status_code": 20000000}')
    frame = decode(hexed("11941100 00000098") + sized(SESSION.encode()) + sized(packed))
    assert frame.payload == b'{"status_code": 20000000}'
    assert frame.meta == {"status_code": 20000000}


def test_a_compressed_payload_has_a_bound() -> None:
    """A few bytes must not become all the memory there is."""
    packed = gzip.compress(bytes(5 * 1024 * 1024))
    with pytest.raises(UpstreamError) as caught:
        decode(hexed("11b41100 00000160") + sized(SESSION.encode()) + sized(packed))
    assert caught.value.code == Code.MALFORMED


@given(st.binary(max_size=200))
def test_garbage_is_a_frame_or_malformed_and_nothing_else(message: bytes) -> None:
    """Whatever comes, nothing but a typed error leaves the decoder."""
    for candidate in (message, hexed("11941000") + message, hexed("11f01100") + message, hexed("11b41100") + message):
        try:
            frame = decode(candidate)
        except UpstreamError as error:
            assert error.code == Code.MALFORMED
        else:
            try:
                Session(SESSION).take(frame)
            except UpstreamError as error:
                assert error.code.startswith("upstream_")


def test_a_text_message_is_a_complaint() -> None:
    """The service documents text messages for errors only."""
    assert failure(decode("quota exceeded for types: concurrency")).kind is Kind.QUOTA
    assert failure(decode("what?")).code == Code.FAILED


# A session


def test_a_session_gives_its_sound_until_it_is_finished() -> None:
    """Sound is handed on as it comes, the sentences' marks are not."""
    session = Session(SESSION)
    assert session.take(told(150)) == b""
    assert session.is_started
    assert session.take(told(350, {"text": "Hello."})) == b""
    assert session.take(sound(b"\x01\x02")) == b"\x01\x02"
    assert session.take(told(351)) == b""
    assert not session.is_over
    assert session.take(told(152, {"status_code": 20000000, "message": "ok"})) == b""
    assert session.is_over


def test_what_belongs_to_another_session_is_dropped_and_counted() -> None:
    """Neither its sound nor its end nor its failure is ours."""
    session = Session(SESSION)
    session.take(told(150))
    others = [sound(b"\x01\x02", "other"), told(152, session="other"), told(153, {"status_code": 1}, session="other")]
    assert [session.take(frame) for frame in others] == [b"", b"", b""]
    assert session.strays == 3
    assert not session.is_over


def test_an_end_without_a_sound_is_a_failure() -> None:
    """Something was to be said and nothing was."""
    session = Session(SESSION)
    session.take(told(150))
    assert failure(told(152, {"status_code": 20000000}), session).code == Code.NO_RESULT


def test_a_cancelled_session_may_end_without_a_sound() -> None:
    """SessionCanceled and SessionFinished both confirm its end."""
    for event in (151, 152):
        session = Session(SESSION)
        session.cancel()
        session.take(told(event, {"status_code": 20000000}))
        assert session.is_over


@pytest.mark.parametrize(
    ("status", "message", "code", "kind", "reason"),
    [
        (45000000, "quota exceeded for types: concurrency", Code.QUOTA, Kind.QUOTA, "quota"),
        (45000000, "quota exceeded for types: text_words_lifetime", Code.QUOTA, Kind.QUOTA, "quota"),
        (45000292, "", Code.QUOTA, Kind.QUOTA, "45000292"),
        (45000000, "speaker permission denied: get resource id: access denied", Code.AUTH, Kind.FATAL, "denied"),
        (45000010, "requested resource not granted", Code.AUTH, Kind.FATAL, "denied"),
        (45000000, "payload unmarshal", Code.REFUSED, Kind.RETRYABLE, "45000000"),
        (45000001, "[Invalid argument] speaker not found", Code.REFUSED, Kind.FATAL, "speaker"),
        (55000000, "resource ID is mismatched with speaker related resource", Code.REFUSED, Kind.FATAL, "speaker"),
        (45002001, "No readable text!", Code.INPUT, Kind.INPUT, "no_text"),
        (40402003, "TTSExceededTextLimit:exceed max limit", Code.INPUT, Kind.INPUT, "40402003"),
        (55000000, "server error", Code.FAILED, Kind.RETRYABLE, "55000000"),
        (12345678, "never heard of", Code.FAILED, Kind.RETRYABLE, "other"),
    ],
)
@pytest.mark.parametrize("event", [152, 153])
def test_a_failure_is_known_by_its_code_and_words(
    *, event: int, status: int, message: str, code: str, kind: Kind, reason: str
) -> None:
    """What follows is decided by the table, the label is bounded, and what the service said goes no further."""
    error = failure(told(event, {"status_code": status, "message": message}))
    assert (error.code, error.kind, error.reason) == (code, kind, reason)
    assert not message or message not in str(error)


def test_the_services_own_end_of_a_connection_is_a_close() -> None:
    """ConnectionFinished in the middle of a session."""
    assert failure(told(52)).code == Code.CLOSED


@given(st.lists(st.sampled_from([150, 151, 152, 153, 350, 351, 352, 7]), max_size=12), st.booleans())
def test_a_session_ends_once_whatever_comes(events: list[int], is_ours: bool) -> None:
    """After its end no event opens it again, and a foreign one never ends it."""
    session, was_over = Session(SESSION), False
    for event in events:
        try:
            session.take(told(event, b"\x01\x02" if event == 352 else None, session=SESSION if is_ours else "other"))
        except UpstreamError:
            return
        assert session.is_over >= was_over
        was_over = session.is_over
    assert is_ours or not (session.is_over or session.is_started)
