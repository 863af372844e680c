"""Volcengine's frames: byte for byte what goes out, and what comes in, compressed or not, numbered or not."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, Kind, UpstreamError
from workers.asr.engines.dialogue import Over, Partial, SentenceOver, Started
from workers.asr.engines.doubao_protocol import DoubaoDialogue, Wishes, audio_frame, decoded, last_frame, request_frame

pytestmark = pytest.mark.unit


def answer(body: Any, *, sequence: int | None = 1, is_last: bool = False, is_gzip: bool = False) -> bytes:
    """A full server response, by hand."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    payload = gzip.compress(payload, mtime=0) if is_gzip else payload
    flags = (sequence is not None) | is_last << 1
    number = b"" if sequence is None else struct.pack(">i", sequence)
    head = bytes([0x11, 0x90 | flags, 0x11 if is_gzip else 0x10, 0])
    return head + number + struct.pack(">I", len(payload)) + payload


def refusal(code: int, text: str = "no") -> bytes:
    payload = json.dumps({"error": text}).encode()
    return bytes.fromhex("11f01000") + struct.pack(">II", code, len(payload)) + payload


def result(*sentences: tuple[str, bool], text: str | None = None) -> dict[str, Any]:
    utterances = [{"text": words, "definite": definite, "end_time": 1200} for words, definite in sentences]
    return {"result": {"text": "".join(s for s, _ in sentences) if text is None else text, "utterances": utterances}}


def dialogue(**wishes: Any) -> DoubaoDialogue:
    return DoubaoDialogue(Wishes(**{"end_window_ms": 3000, **wishes}), "session")


def test_the_last_frame_is_the_known_one() -> None:
    """Header, size 20, and nothing, gzipped."""
    frame = last_frame()
    assert frame[:10] == bytes.fromhex("11221100 00000014 1f8b")
    assert (len(frame), gzip.decompress(frame[8:])) == (28, b"")


def test_sound_and_request_have_the_known_heads() -> None:
    """Type, no sequence, JSON and gzip, big-endian size."""
    for frame, head, content in (
        (audio_frame(b"\x01\x02" * 3200), "11201100", b"\x01\x02" * 3200),
        (request_frame({"a": 1}), "11101100", b'{"a": 1}'),
    ):
        assert frame[:4] == bytes.fromhex(head)
        assert int.from_bytes(frame[4:8], "big") == len(frame) - 8
        assert gzip.decompress(frame[8:]) == content


def test_the_known_answer_is_read() -> None:
    """A result of 118 bytes with sequence 2."""
    text = "x" * (118 - len(json.dumps({"result": {"text": ""}})))
    frame = answer({"result": {"text": text}}, sequence=2)
    assert frame[:12] == bytes.fromhex("11911000 00000002 00000076")
    assert decoded(frame).body == {"result": {"text": text}}


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize(("sequence", "flag", "is_last"), [(3, True, True), (-3, True, True), (-3, False, True)])
def test_the_last_answer_is_known_by_flag_or_number(sequence: int, flag: bool, is_last: bool, is_gzip: bool) -> None:
    """The service has been seen to do either."""
    assert decoded(answer({}, sequence=sequence, is_last=flag, is_gzip=is_gzip)).is_last is is_last


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("sequence", [None, 1])
def test_answers_are_read_packed_or_not_numbered_or_not(sequence: int | None, is_gzip: bool) -> None:
    """The header says which."""
    frame = decoded(answer({"result": {"text": "你好"}}, sequence=sequence, is_gzip=is_gzip))
    assert (frame.is_last, frame.body) == (False, {"result": {"text": "你好"}})


def test_the_request_says_what_is_wished() -> None:
    """Documented fields only; the keys are in the headers and not here."""
    request = json.loads(gzip.decompress(bytes(dialogue().opening())[8:]))  # type: ignore[arg-type]
    assert request == {
        "user": {"uid": "session"},
        "audio": {"format": "pcm", "codec": "raw", "rate": 16000, "bits": 16, "channel": 1},
        "request": {
            "model_name": "bigmodel",
            "enable_itn": True,
            "enable_punc": True,
            "show_utterances": True,
            "result_type": "full",
            "end_window_size": 3000,
        },
    }


def test_an_early_end_a_language_and_tables_are_asked_for_if_wished() -> None:
    """Without force_to_speech_time the service finds no end in the first ten seconds."""
    payload = Wishes(200, True, "ja-JP", "hot", "").payload("u")
    assert payload["request"]["force_to_speech_time"] == 1000
    assert payload["request"]["corpus"] == {"boosting_table_name": "hot"}
    assert payload["audio"]["language"] == "ja-JP"


def test_a_session_tells_its_start_its_sentences_and_its_end() -> None:
    """Each answer is the whole text so far; a definite sentence is an end of speech."""
    session = dialogue()
    assert session.read(answer({"result": {"text": ""}})) == [Started()]
    assert session.read(answer(result(("你", False)))) == [Partial("你")]
    assert session.read(answer(result(("你好。", True)))) == [Partial("你好。"), SentenceOver(1200, "你好。")]
    assert session.read(answer(result(("你好。", True)))) == []
    assert session.read(answer(result(("你好。", True), ("再", False)))) == [Partial("你好。再")]
    session.closing()
    last = answer(result(("你好。", True), ("再见。", True)), sequence=-5, is_last=True)
    assert session.read(last) == [Partial("你好。再见。"), Over("你好。再见。")]


def test_an_answer_without_sentences_counts_by_its_text() -> None:
    """The variant for more languages sends one text at the end."""
    session = dialogue()
    session.closing()
    assert session.read(answer({"result": {"text": "konnichiwa"}}, is_last=True))[-1] == Over("konnichiwa")


def test_a_result_may_be_a_list() -> None:
    """As the description has it."""
    assert dialogue().read(answer({"result": [{"text": "hi"}]}, is_last=True))[-1] == Over("hi")


def test_an_empty_last_answer_keeps_what_was_definite() -> None:
    """And takes back what was not."""
    session = dialogue()
    session.read(answer(result(("one.", True), ("noise", False))))
    assert session.read(answer({"result": {"text": ""}}, is_last=True))[-1] == Over("one.")


@pytest.mark.parametrize("message", [answer({"code": 1013}), answer({"code": "1013"}), refusal(45000002)])
def test_no_speech_after_the_end_is_an_empty_text(message: bytes) -> None:
    """Nobody spoke: no failure."""
    session = dialogue()
    session.closing()
    assert session.read(message) == [Over("")]


def test_no_speech_before_the_end_is_only_news() -> None:
    """The person may yet speak."""
    session = dialogue()
    assert session.read(answer({"code": 1013})) == [Started()]
    assert session.read(answer({"code": 1013})) == []
    assert session.read(answer(result(("hello", True)))) == [Partial("hello"), SentenceOver(1200, "hello")]


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        (refusal(45000001), Code.REFUSED, Kind.FATAL),
        (refusal(45000081), Code.IDLE_TIMEOUT, Kind.RETRYABLE),
        (refusal(45000151), Code.INPUT, Kind.INPUT),
        (refusal(45000292), Code.QUOTA, Kind.QUOTA),
        (refusal(45000000, "quota exceeded for types: concurrency"), Code.QUOTA, Kind.QUOTA),
        (refusal(45000000, "resource not granted"), Code.AUTH, Kind.FATAL),
        (refusal(55000031), Code.FAILED, Kind.RETRYABLE),
        (refusal(55012345), Code.FAILED, Kind.RETRYABLE),
        (answer({"code": 1002}), Code.AUTH, Kind.FATAL),
        (answer({"code": 1005}), Code.FAILED, Kind.RETRYABLE),
        (answer({"error": "broken"}), Code.FAILED, Kind.RETRYABLE),
        (answer({"code": [1]}), Code.FAILED, Kind.RETRYABLE),
        (refusal(55000031)[:-3], Code.FAILED, Kind.RETRYABLE),
    ],
)
def test_a_refusal_says_what_follows(message: bytes, code: str, kind: Kind) -> None:
    """In an error frame or in an answer, cut off or whole."""
    with pytest.raises(UpstreamError) as failure:
        dialogue().read(message)
    assert (failure.value.code, failure.value.kind) == (code, kind)


def test_an_acknowledgement_is_a_sign_of_life_and_nothing_else() -> None:
    """It has no payload."""
    assert DoubaoDialogue(Wishes(800), "s").read(bytes.fromhex("11b10000 00000001")) == [Started()]


@pytest.mark.parametrize(
    "message",
    [
        "text",
        b"",
        b"\x11\x91",
        bytes.fromhex("21911000 00000001 00000000"),
        bytes.fromhex("11911000 00000001 000000ff 7b7d"),
        bytes.fromhex("11911100 00000001 00000004 6a756e6b"),
        bytes.fromhex("11c11000 00000001 00000002 7b7d"),
        answer([1, 2]),
        answer(b"{"),
        answer(b"[" * 100_000),
        answer(gzip.compress(b"{}", mtime=0)[:-4], is_gzip=False),
    ],
)
def test_what_is_no_frame_is_malformed(message: str | bytes) -> None:
    """A typed failure, not a crash."""
    with pytest.raises(UpstreamError) as failure:
        decoded(message)
    assert failure.value.code == Code.MALFORMED


def test_a_few_bytes_that_stand_for_very_many_are_refused() -> None:
    """Unpacking is bounded."""
    with pytest.raises(UpstreamError):
        decoded(answer(b'"' + b" " * (64 * 1024 * 1024) + b'"', is_gzip=True))


@given(st.binary(max_size=64))
def test_no_bytes_do_worse_than_a_typed_failure(noise: bytes) -> None:
    """Whatever comes."""
    session = dialogue()
    for message in (noise, b"\x11" + noise, b"\x11\x91\x10\x00" + noise, answer(noise), answer(noise, is_gzip=True)):
        with contextlib.suppress(UpstreamError):
            session.read(message)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SENTENCES = ANYTHING | st.lists(
    st.fixed_dictionaries({"text": ANYTHING, "definite": st.booleans(), "end_time": ANYTHING}), max_size=3
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "code": ANYTHING,
        "error": ANYTHING,
        "result": ANYTHING | st.fixed_dictionaries({"text": ANYTHING, "utterances": SENTENCES}),
    },
)


@given(st.lists(BODIES, max_size=6))
def test_no_body_does_worse_than_a_typed_failure(bodies: list[dict[str, Any]]) -> None:
    """Fields of the wrong kind are as good as missing."""
    session = dialogue()
    for body in bodies:
        with contextlib.suppress(UpstreamError):
            session.read(answer(body))
