"""Sound of every kind to samples as it comes: whatever the cut, whatever the server calls it."""

from __future__ import annotations

import struct
from functools import cache

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.upstreams.encoding import FORMATS, encoded
from bench.upstreams.voice import heard, spoken
from shared.marks import Mark
from shared.upstream.faults import Code, UpstreamError
from workers.tts.decoding.formats import Declared, Format, declared, format_of
from workers.tts.decoding.ogg import OpusPages
from workers.tts.decoding.sound import MAX_PIECE_BYTES, SoundDecoder, in_parts
from workers.tts.decoding.wav import wav_header

pytestmark = pytest.mark.unit

RATE_HZ = 24_000
MARK = Mark(5, 9)
TEXT = f"{MARK.word} says good morning"
SLACK_MS = {"mp3": 120, "aac": 120, "opus": 40}
"""What a codec may add to the sound: whole frames and its own delay."""
ANY_FORMAT = pytest.mark.parametrize("kind", FORMATS)


@cache
def stream_of(kind: str, text: str = TEXT) -> bytes:
    return b"".join(encoded(spoken(text, RATE_HZ), kind, RATE_HZ))


def known_of(kind: str) -> Declared:
    return Declared(Format.PCM) if kind == "pcm" else Declared()


def decoded(pieces: list[bytes], known: Declared, rate_hz: int = RATE_HZ) -> bytes:
    decoder = SoundDecoder(known, rate_hz)
    return b"".join(map(decoder.feed, pieces)) + decoder.finish()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def samples_of(pcm: bytes) -> npt.NDArray[np.int16]:
    return np.frombuffer(pcm, "<i2")


def pitch_hz(pcm: bytes, rate_hz: int = RATE_HZ) -> float:
    sound = samples_of(pcm)
    middle = sound[len(sound) // 4 : 3 * len(sound) // 4].astype(float)
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * rate_hz / len(middle))


def wav(data: bytes, *, tag: int = 1, bits: int = 16, rate_hz: int = RATE_HZ, channels: int = 1, **more: int) -> bytes:
    """`size` is what the header claims; `before` bytes of another chunk come first."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits)
    extra = b"LIST" + struct.pack("<I", more["before"]) + bytes(more["before"]) if "before" in more else b""
    size = struct.pack("<I", more.get("size", len(data)))
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(fmt)) + fmt + extra + b"data" + size + data


# Every format


@ANY_FORMAT
@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_what_was_said_is_heard_however_it_is_cut(kind: str, size: int) -> None:
    """The mark is in the sound, and its length is right but for the codec's own padding."""
    pcm = decoded(cut(stream_of(kind), size), known_of(kind))
    assert heard(pcm, RATE_HZ) == MARK.word
    assert 0 <= len(pcm) / 2 - len(spoken(TEXT, RATE_HZ)) / 2 <= SLACK_MS.get(kind, 0) * RATE_HZ / 1000


@ANY_FORMAT
@given(cuts=st.lists(st.integers(1, 400), max_size=60))
@settings(max_examples=25, deadline=None)
def test_a_cut_changes_nothing(kind: str, cuts: list[int]) -> None:
    """The same bytes are the same samples, wherever a piece ends."""
    whole = stream_of(kind, "hello")
    pieces, at = [], 0
    for size in cuts:
        pieces.append(whole[at : at + size])
        at += size
    assert decoded([*pieces, whole[at:]], known_of(kind)) == decoded([whole], known_of(kind))


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "flac"])
def test_the_first_sound_does_not_wait_for_the_end(kind: str) -> None:
    """A quarter of the stream is more than a tenth of the sound (of FLAC the parser holds ten frames back)."""
    data = stream_of(kind, TEXT * 2)
    decoder = SoundDecoder(known_of(kind), RATE_HZ)
    early = decoder.feed(data[: len(data) // 4])
    assert len(early) > len(spoken(TEXT * 2, RATE_HZ)) / 10


@ANY_FORMAT
@given(data=st.binary(max_size=400), at=st.integers(0, 3000))
@settings(max_examples=40, deadline=None)
def test_whatever_comes_is_sound_or_a_typed_error(kind: str, data: bytes, at: int) -> None:
    """Bytes thrown into a stream at any place raise nothing but an UpstreamError."""
    stream = stream_of(kind, "hello")
    try:
        pcm = decoded([stream[:at], data, stream[at:]], known_of(kind))
    except UpstreamError as error:
        assert error.code == Code.MALFORMED
    else:
        assert len(pcm) % 2 == 0


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_rate_of_ours_is_served(kind: str, rate_hz: int) -> None:
    """The pitch stays, the number of samples follows the rate."""
    pcm = decoded([stream_of(kind, "hello hello hello")], known_of(kind), rate_hz)
    assert pitch_hz(pcm, rate_hz) == pytest.approx(440, abs=3)
    assert len(pcm) / 2 / rate_hz == pytest.approx(17 * 0.06, abs=0.15)


# What a stream is


@pytest.mark.parametrize(
    ("head", "known", "kind"),
    [
        (b"RIFF\0\0\0\0WAVE", Declared(Format.MP3), Format.WAV),
        (b"RIFF\0\0\0\0WAVE", Declared(Format.PCM), Format.WAV),
        (b"ID3\x04\0\0\0\0\0\0\0\0", Declared(Format.WAV), Format.MP3),
        (b"\xff\xf3\x64\xc4" + bytes(8), Declared(), Format.MP3),
        (b"\xff\xfb\x90\x44" + bytes(8), Declared(Format.WAV), Format.MP3),
        (b"\xff\xf1\x58\x40" + bytes(8), Declared(Format.MP3), Format.AAC),
        (b"\xff\xf9\x58\x40" + bytes(8), Declared(), Format.AAC),
        (b"\xff\xf3\x64\xc4" + bytes(8), Declared(Format.PCM), Format.PCM),
        (b"OggS" + bytes(8), Declared(Format.PCM), Format.OGG),
        (b"fLaC" + bytes(8), Declared(Format.WAV), Format.FLAC),
        (bytes(12), Declared(Format.PCM), Format.PCM),
        (bytes(12), Declared(Format.MP3), Format.MP3),
        (b"{'error': 'x'}", Declared(), None),
    ],
)
def test_the_first_bytes_tell_and_else_the_server(head: bytes, known: Declared, kind: Format | None) -> None:
    """A wrong name is no harm; raw samples that look like an MP3 frame are samples."""
    assert format_of(head, known) is kind


@pytest.mark.parametrize(
    ("content_type", "asked", "result"),
    [
        ("audio/mpeg", Format.WAV, Declared(Format.MP3)),
        ("Audio/X-WAV; charset=binary", Format.PCM, Declared(Format.WAV)),
        ("audio/pcm;rate=16000;channels=2", Format.WAV, Declared(Format.PCM, 16_000, 2)),
        ("audio/L16; rate=44100", Format.WAV, Declared(Format.PCM, 44_100)),
        ("audio/pcm;rate=1;channels=99", Format.WAV, Declared(Format.PCM)),
        ("application/octet-stream", Format.PCM, Declared(Format.PCM)),
        ("", Format.MP3, Declared(Format.MP3)),
        ("audio/strange", Format.WAV, Declared(Format.WAV)),
        ("application/json", Format.WAV, None),
        ("text/html; charset=utf-8", Format.WAV, None),
    ],
)
def test_a_content_type_names_the_sound_or_says_it_is_none(
    content_type: str, asked: Format, result: Declared | None
) -> None:
    """A page or a message in place of sound is never decoded."""
    assert declared(content_type, asked, RATE_HZ) == result


@pytest.mark.parametrize("known", [Declared(), Declared(Format.WAV), Declared(Format.OGG)])
def test_what_is_no_sound_is_an_error(known: Declared) -> None:
    """A message in place of sound is said to be malformed, not played."""
    with pytest.raises(UpstreamError) as caught:
        decoded([b'{"error": {"message": "the text you sent was"}}' * 3], known)
    assert caught.value.code == Code.MALFORMED
    assert "text you sent" not in str(caught.value)


def test_mp3_that_is_none_gives_no_sound() -> None:
    """The parser finds no frame in noise, or too many that are none: the caller says that nothing came."""
    noise = np.random.default_rng(1).bytes(20_000)
    try:
        assert len(decoded(cut(noise, 500), Declared(Format.MP3))) < 24_000
    except UpstreamError as error:
        assert error.code == Code.MALFORMED


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x02\x03"])
def test_a_very_short_stream_ends_well(data: bytes) -> None:
    """Fewer bytes than tell a format are what the server calls them; half a sample is dropped."""
    assert decoded([data], Declared(Format.PCM)) == data[: len(data) // 2 * 2]


# MP3


def test_stereo_at_another_rate_becomes_ours() -> None:
    """44.1 kHz stereo, as many servers send it."""
    encoder = av.CodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 44_100, "stereo", "s16p", 128_000
    wave = np.frombuffer(spoken("a long tone of some seconds", 44_100), "<i2")
    stream = b""
    for start in range(0, len(wave), 1152):
        part = wave[start : start + 1152]
        frame = av.AudioFrame.from_ndarray(np.stack([part, part]), format="s16p", layout="stereo")
        frame.sample_rate = 44_100
        stream += b"".join(map(bytes, encoder.encode(frame)))
    stream += b"".join(map(bytes, encoder.encode(None)))
    pcm = decoded(cut(stream, 700), Declared())
    assert pitch_hz(pcm) == pytest.approx(440, abs=2)
    assert len(pcm) / 2 / RATE_HZ == pytest.approx(len(wave) / 44_100, abs=0.12)


@pytest.mark.parametrize("size", [7, 5000])
def test_a_tag_that_looks_like_frames_is_skipped(size: int) -> None:
    """A picture in the tag may hold anything, a frame's mark too."""
    plain = stream_of("mp3", "hello")
    tag = b"ID3\x04\x00\x00\x00\x00\x18\x00" + plain[:1500] + bytes(24 * 128 - 1500)
    assert decoded(cut(tag + plain, size), Declared()) == decoded([plain], Declared())


def test_a_big_piece_is_fed_in_parts() -> None:
    """So that decoding it all does not hold up the loop."""
    data = bytes(range(256)) * 100
    parts = in_parts(data)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= MAX_PIECE_BYTES
    assert in_parts(b"") == []


# WAV


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36])
def test_a_size_that_nobody_knew_is_not_believed(size: int) -> None:
    """A server that streams writes a header before it knows how long the sound is."""
    pcm = spoken("hello", RATE_HZ)
    assert decoded(cut(wav(pcm, size=size), 999), Declared()) == pcm


def test_what_stands_behind_the_sound_is_not_played() -> None:
    """A true size ends it: chunks behind it are data of other kinds."""
    pcm = spoken("hello", RATE_HZ)
    assert decoded(cut(wav(pcm) + b"LIST\x10\0\0\0" + b"\x7f" * 16, 100), Declared()) == pcm


@pytest.mark.parametrize("before", [4, 33, 20_000])
def test_chunks_before_the_sound_are_skipped(before: int) -> None:
    """A list of tags, of odd length too."""
    header = wav(b"", before=before)
    padded = header[:-8] + b"\0" * (before % 2) + header[-8:]
    pcm = spoken("hello", RATE_HZ)
    stream = padded[:-4] + struct.pack("<I", len(pcm)) + pcm
    assert decoded(cut(stream, 1000), Declared()) == pcm


@pytest.mark.parametrize(
    ("tag", "bits", "dtype", "scale"),
    [(1, 8, "<u1", 127), (1, 32, "<i4", 2**31 - 1), (3, 32, "<f4", 1.0), (3, 64, "<f8", 1.0)],
)
def test_every_kind_of_sample_is_played(tag: int, bits: int, dtype: str, scale: float) -> None:
    """Local servers write what their model gives: floats above all."""
    tone = np.sin(np.arange(RATE_HZ) * 2 * np.pi * 440 / RATE_HZ) / 2
    data = (tone * scale + (128 if dtype == "<u1" else 0)).astype(dtype).tobytes()
    pcm = decoded(cut(wav(data, tag=tag, bits=bits), 1111), Declared())
    assert len(pcm) == 2 * RATE_HZ
    assert np.abs(samples_of(pcm) / 32767 - tone).max() < 0.02


def test_floats_beyond_full_scale_are_clipped() -> None:
    """They do not wrap round."""
    pcm = decoded([wav(np.array([2.0, -2.0] * 20, "<f4").tobytes(), tag=3, bits=32)], Declared())
    assert set(samples_of(pcm).tolist()) == {32767, -32768}


@pytest.mark.parametrize(
    "header",
    [
        wav(b"", tag=85),
        wav(b"", bits=12),
        wav(b"", channels=0),
        wav(b"", rate_hz=1),
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0\x01\0\x01\0data\0\0\0\0",
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f" + bytes(40),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: bytes) -> None:
    """Before a sample is played."""
    with pytest.raises(ValueError, match=r".+"):
        wav_header(header)
    with pytest.raises(UpstreamError):
        decoded([header + bytes(100)], Declared())


# Ogg


def ogg_page(packets: list[bytes], *, is_open: bool = False) -> bytes:
    """`is_open`: the last packet, a multiple of 255, goes on in the next page."""
    lacing = []
    for number, packet in enumerate(packets):
        lacing += [255] * (len(packet) // 255)
        if not (is_open and number == len(packets) - 1):
            lacing.append(len(packet) % 255)
    return b"OggS" + bytes(22) + bytes([len(lacing)]) + bytes(lacing) + b"".join(packets)


HEAD = b"OpusHead\x01\x01" + struct.pack("<HIhB", 312, 24_000, 0, 0)


@given(packets=st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=12), size=st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_packets_come_out_of_pages_as_they_went_in(packets: list[bytes], size: int) -> None:
    """Of any length, in pages cut anywhere; the two headers are none of them."""
    stream = ogg_page([HEAD]) + ogg_page([b"OpusTags"]) + b"".join(ogg_page([packet]) for packet in packets)
    pages = OpusPages()
    assert [found for piece in cut(stream, size) for found in pages.feed(piece)] == packets
    assert pages.preskip == 312


def test_a_packet_goes_on_in_the_next_page() -> None:
    """As a long one does."""
    pages = OpusPages()
    stream = ogg_page([HEAD]) + ogg_page([b"OpusTags"]) + ogg_page([b"x" * 510], is_open=True) + ogg_page([b"y" * 7])
    assert pages.feed(stream) == [b"x" * 510 + b"y" * 7]


@pytest.mark.parametrize(
    "stream", [b"OggX" + bytes(40), ogg_page([b"\x01vorbis" + bytes(30)]), ogg_page([b"OpusHead"])]
)
def test_other_pages_are_refused(stream: bytes) -> None:
    """Vorbis has the same pages."""
    with pytest.raises(ValueError, match=r".+"):
        OpusPages().feed(stream)
