"""FunASR's messages: what goes out byte for byte, and which answer of which server is the last one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, UpstreamError
from workers.asr.engines.dialogue import News, Over, Partial, SentenceOver
from workers.asr.engines.fun_protocol import PACKET_BYTES, FunDialogue, Wishes

pytestmark = pytest.mark.unit

ONLINE, OFFLINE = "2pass-online", "2pass-offline"


def dialogue(mode: str = "2pass") -> FunDialogue:
    return FunDialogue(Wishes(mode), "s-1")


def answer(mode: str, text: str, *, is_final: bool, **more: Any) -> str:
    return json.dumps({"mode": mode, "text": text, "wav_name": "s-1", "is_final": is_final, **more})


def told(one: FunDialogue, *answers: str) -> list[News]:
    return [news for each in answers for news in one.read(each)]


def test_the_opening_is_the_documented_one() -> None:
    """Sound of 16 kHz in PCM; hot words as a JSON object in a string."""
    opening = FunDialogue(Wishes("2pass", hotwords='{"阿里巴巴": 20}', itn=True), "s-1").opening()
    assert opening == (
        '{"mode": "2pass", "chunk_size": [5, 10, 5], "chunk_interval": 10, "wav_name": "s-1", "is_speaking": true, '
        '"audio_fs": 16000, "wav_format": "pcm", "itn": true, "hotwords": "{\\"阿里巴巴\\": 20}"}'
    )


def test_no_hot_words_are_no_key() -> None:
    """An empty one is an error to some servers."""
    assert "hotwords" not in json.loads(dialogue().opening())


def test_the_end_is_said_as_old_and_new_servers_want_it() -> None:
    """Old ones ignore what they do not know."""
    assert json.loads(dialogue().closing()) == {"is_speaking": False, "is_end": True}


def test_a_packet_is_always_whole() -> None:
    """The last one is filled with silence."""
    assert dialogue().sound(b"\1\2") == b"\1\2" + bytes(PACKET_BYTES - 2)
    assert dialogue().sound(b"\1" * PACKET_BYTES) == b"\1" * PACKET_BYTES


def test_the_cpp_server_of_two_passes() -> None:
    """Only its last answer is final; a sentence that is still on its way at the end is not the last one."""
    one = dialogue()
    assert told(one, answer(ONLINE, "今天", is_final=False), answer(ONLINE, "天气", is_final=False)) == [
        Partial("今天"),
        Partial("今天天气"),
    ]
    one.closing()
    assert told(one, answer(OFFLINE, "今天天气不错。", is_final=False)) == [
        Partial("今天天气不错。"),
        SentenceOver(None, "今天天气不错。"),
    ]
    assert told(one, answer(OFFLINE, "是吗？", is_final=True)) == [Over("今天天气不错。是吗？")]


def test_the_cpp_server_may_end_without_a_text() -> None:
    """Then it does not even name a mode."""
    one = dialogue()
    assert told(one, answer(OFFLINE, "好。", is_final=False)) == [Partial("好。"), SentenceOver(None, "好。")]
    one.closing()
    assert one.read('{"text": "", "wav_name": "s-1", "is_final": true}') == [Over("好。")]


def test_the_python_server_is_final_while_one_speaks() -> None:
    """Its last answer is the one that is not; pieces that are on their way are none."""
    one = dialogue()
    assert told(one, answer(ONLINE, "hello", is_final=True)) == [Partial("hello")]
    one.closing()
    late = (answer(OFFLINE, "hello there.", is_final=True), answer(ONLINE, "more", is_final=False))
    over = SentenceOver(None, "hello there.")
    assert told(one, *late) == [Partial("hello there."), over, Partial("hello there. more")]
    assert told(one, answer(OFFLINE, "and more.", is_final=False)) == [Over("hello there. and more.")]


def test_a_short_utterance_at_the_python_server() -> None:
    """Nothing came before, so that nothing is known of the server."""
    one = dialogue()
    one.closing()
    assert told(one, answer(OFFLINE, "yes", is_final=False)) == [Over("yes")]


def test_a_piece_that_crosses_the_end_shows_the_python_server() -> None:
    """It was said while one still spoke."""
    one = dialogue()
    one.closing()
    assert told(one, answer(ONLINE, "hel", is_final=True)) == [Partial("hel")]
    assert told(one, answer(OFFLINE, "hello", is_final=False)) == [Over("hello")]


@pytest.mark.parametrize("is_final", [True, False])
def test_an_offline_server_answers_once(is_final: bool) -> None:
    """As the protocol says, and as the servers do."""
    one = dialogue("offline")
    one.closing()
    assert told(one, answer("offline", "hello", is_final=is_final)) == [Over("hello")]


def test_a_confirmed_end_is_the_end() -> None:
    """With a text before it or without."""
    one = dialogue()
    one.closing()
    assert one.read('{"is_end": true, "is_final": true}') == [Over("")]


def test_a_failed_end_is_a_failure() -> None:
    """What the server says of it is not repeated."""
    one = dialogue()
    one.closing()
    with pytest.raises(UpstreamError) as failure:
        one.read('{"is_end": true, "is_final": false, "error": "CUDA out of memory: secret"}')
    assert failure.value.code == Code.FAILED
    assert "secret" not in repr(failure.value)


def test_sense_voices_tags_are_no_text() -> None:
    """Language, mood and kind of sound."""
    one = dialogue("offline")
    one.closing()
    tagged = answer("offline", "<|zh|><|NEUTRAL|><|Speech|><|withitn|>你好。<|zh|><|HAPPY|>再见。", is_final=False)
    assert told(one, tagged) == [Over("你好。再见。")]


def test_another_sessions_answer_is_nobodys() -> None:
    """Whatever it says."""
    one = dialogue()
    one.closing()
    assert one.read('{"mode": "offline", "text": "no", "wav_name": "s-2", "is_final": true}') == []


@pytest.mark.parametrize("message", ["", "{", "[]", "1", b"\xff\x00", "[" * 100_000, '{"text": 3}', '{"text": null}'])
def test_what_is_no_answer_is_a_typed_failure(message: str | bytes) -> None:
    """Malformed, not a crash."""
    with pytest.raises(UpstreamError) as failure:
        dialogue().read(message)
    assert failure.value.code == Code.MALFORMED


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
keys = st.sampled_from(["mode", "text", "is_final", "is_end", "wav_name", "error"])


@given(st.lists(st.one_of(st.text(), st.binary(), st.dictionaries(keys, values).map(json.dumps))), st.booleans())
def test_nothing_that_comes_raises_anything_else(messages: list[str | bytes], is_closing: bool) -> None:
    """Before the end nothing is the last answer; what is malformed is said so."""
    one = dialogue()
    if is_closing:
        one.closing()
    for message in messages:
        try:
            news = one.read(message)
        except UpstreamError:
            continue
        assert is_closing or not any(isinstance(each, Over) for each in news)
