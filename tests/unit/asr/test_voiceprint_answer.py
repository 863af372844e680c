"""What a voiceprint server's answer means, how its health is looked at, and the sound it is sent."""

from __future__ import annotations

import asyncio
import io
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.upstream.faults import Code, UpstreamError
from shared.voiceprint import UNKNOWN
from workers.asr.voiceprint.answer import is_healthy, speaker_in
from workers.asr.voiceprint.health import Health
from workers.asr.voiceprint.server import wav_of

pytestmark = pytest.mark.unit

NAMES = {"a": "Zhang San", "b": "Li Si"}
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["speaker_id", "score"]), inner),
)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"speaker_id": "a", "score": 0.9}, "Zhang San"),
        ({"speaker_id": "b", "score": 1}, "Li Si"),
        ({"speaker_id": "a", "score": 0.4}, "Zhang San"),
        ({"speaker_id": "a", "score": 0.39}, UNKNOWN),
        ({"speaker_id": "c", "score": 0.9}, UNKNOWN),
        ({"speaker_id": "", "score": 0.9}, UNKNOWN),
        ({"speaker_id": None, "score": 0.0}, UNKNOWN),
    ],
)
def test_a_voice_is_somebodys_at_the_threshold(answer: Any, name: str) -> None:
    """Below it, or of an id that is not in the list, it is nobody's."""
    assert speaker_in(answer, NAMES, 0.4) == name


@given(JSON)
def test_any_answer_is_a_name_or_a_malformed_one(answer: Any) -> None:
    """Whatever JSON comes, nothing else is raised."""
    try:
        assert speaker_in(answer, NAMES, 0.4) in (*NAMES.values(), UNKNOWN)
    except UpstreamError as error:
        assert error.code == Code.MALFORMED


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [({"status": "healthy"}, True), ({"status": "degraded"}, False), (["healthy"], False), ({}, False), (None, False)],
)
def test_only_healthy_is_well(answer: Any, healthy: bool) -> None:
    """The rule of today's server."""
    assert is_healthy(answer) is healthy


@given(st.binary(max_size=4000).map(lambda raw: raw[: len(raw) // 2 * 2]))
def test_the_file_holds_the_sound(pcm: bytes) -> None:
    """16 kHz, one channel, 16 bits, sample for sample."""
    with wave.open(io.BytesIO(wav_of(pcm)), "rb") as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (16_000, 1, 2)
        assert reader.readframes(reader.getnframes()) == pcm


class Looks:
    """A look at a service that takes as long as the test wants."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.count = 0
        self.go = asyncio.Event()

    async def __call__(self) -> bool:
        self.count += 1
        await self.go.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("is_well", [True, False])
async def test_a_hundred_who_ask_at_once_cause_one_look(is_well: bool) -> None:
    """All wait for it and get its answer, which is then believed, good or bad."""
    looks = Looks(is_well)
    health = Health(looks, name="t")
    asked = [asyncio.create_task(health.is_good()) for _ in range(100)]
    await asyncio.sleep(0)
    looks.go.set()
    assert set(await asyncio.gather(*asked)) == {is_well}
    assert await health.is_good() is is_well and looks.count == 1


async def test_what_is_too_old_is_believed_until_the_new_look_is_over() -> None:
    """Nobody waits again; one new look is under way."""
    looks = Looks(True, False)
    health = Health(looks, name="t", keep_s=0.0)
    looks.go.set()
    assert await health.is_good()
    looks.go.clear()
    assert [await health.is_good() for _ in range(5)] == [True] * 5
    await asyncio.sleep(0)
    assert looks.count == 2
    looks.go.set()
    while health.known:  # noqa: ASYNC110 - what is known has no event
        await asyncio.sleep(0)
    await health.close()


async def test_a_look_that_raises_means_no() -> None:
    """A bug there keeps nobody from talking."""
    looks = Looks(RuntimeError("bug"))
    looks.go.set()
    assert not await Health(looks, name="t").is_good()


async def test_closing_ends_the_look() -> None:
    """A service that does not answer holds up no end."""
    health = Health(Looks(True), name="t")
    health.refresh()
    await asyncio.sleep(0)
    await health.close()
    assert health.known is None
