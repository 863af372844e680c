"""`type: espeak`: eSpeak NG from the wheel of espeakng-loader, some 130 languages, about 400 times real time.

Options: `voice` (an eSpeak voice name such as "en-gb"; None = by language), `variant` (a voice of its !v directory,
"f2"), `rate_wpm` (80 … 450), `pitch` (0 … 99).

The library is one global state machine, so one lock guards it. It carries vibrato, echo and noise over from one text to
the next (espeak-ng#1528); it is unloaded after each piece, which costs 1 to 4 ms and makes the same text the same
samples.
"""

from __future__ import annotations

import ctypes
import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np

from shared.errors import ConfigError, EngineError
from workers.tts import sentences
from workers.tts.engine import Pcm, Speech
from workers.tts.language import guess_language, primary_tag
from workers.tts.silence import shaped

SAMPLE_RATE = 22_050
_GAIN = 0.8
"""Brings its speech to -21 dBFS, the level of the other voices."""
_MAX_PIECE_CHARS = 80
"""A Chinese character is as long as three English ones."""
_LOCK_TIMEOUT_S = 5.0

_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3

_IPA = 2
"""espeakPHONEMES_IPA of speak_lib.h."""
_PUNCTUATION = re.compile(r"([,.;:!?，。；：！？、…]+)(?=\s|$|[^\x00-\x7f])")
_MARKS = {"，": ",", "、": ",", "。": ".", "；": ";", "：": ":", "！": "!", "？": "?", "…": "."}
_LANGUAGE_SWITCH = re.compile(r"\([a-z-]+\)")
"""Around words of another language."""

_PREFERRED = {"en": "en-us", "zh": "cmn", "fr": "fr-fr", "es": "es-419"}
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_lock = threading.Lock()


class _Voice(ctypes.Structure):
    """espeak_VOICE of speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("reserved2", ctypes.c_void_p),
    )


class EspeakEngine:
    """Speaks every language eSpeak NG has a voice for; one it has none for is spoken as English."""

    deterministic = True
    sample_rate = SAMPLE_RATE

    def __init__(self, section: str, options: dict[str, Any]) -> None:
        self._voice = str(options["voice"]) if options.get("voice") else None
        self._variant = _variant(section, options.get("variant", "f2"))
        self._rate_wpm = _number(section, "rate_wpm", options.get("rate_wpm", 175), 80, 450)
        self._pitch = _number(section, "pitch", options.get("pitch", 50), 0, 99)
        self._section = section

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(filter(None, map(primary_tag, _voice_files())))

    def load(self) -> None:
        if self._voice is not None and self._voice.lower() not in _voice_files():
            raise ConfigError(f"TTS.{self._section}.voice", self._voice, "the name of an eSpeak NG voice")
        _voice_files()

    def synthesise(self, text: str, voice: str | None, language: str | None, seed: int) -> Speech:
        voice_file = self._voice_file(voice, primary_tag(language) or guess_language(text))
        for sentence in sentences.sentences(text):
            for piece in sentences.bounded(sentence, _MAX_PIECE_CHARS):
                pcm = self._render(piece, voice_file, seed)
                yield shaped(pcm, SAMPLE_RATE, tail_ms=sentences.pause_after_ms(piece))

    def _voice_file(self, voice: str | None, language: str) -> str:
        files = _voice_files()
        names = (voice, self._voice, _PREFERRED.get(language), language, "en-us")
        return next(files[name.lower()] for name in names if name and name.lower() in files)

    def _render(self, piece: str, voice_file: str, seed: int) -> Pcm:
        parameters = {_PARAMETER_RATE: self._rate_wpm, _PARAMETER_PITCH: self._pitch}
        with _locked(), _loaded_library() as library:
            samples = _speak(library, piece, f"{voice_file}+{self._variant}", parameters, seed)
        return np.frombuffer(samples, "<i2").astype(np.float32) * np.float32(_GAIN / 32768)


def _speak(library: ctypes.CDLL, text: str, voice: str, parameters: dict[int, int], seed: int) -> bytes:
    collected: list[bytes] = []

    def on_samples(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            collected.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _SYNTH_CALLBACK(on_samples)
    library.espeak_SetSynthCallback(callback)
    _check(library.espeak_SetVoiceByName(voice.encode()), "voice")
    for parameter, value in parameters.items():
        _check(library.espeak_SetParameter(parameter, value, 0), "parameter")
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed & 0x7FFFFFFF))
    raw = text.encode() + b"\0"
    arguments = (raw, len(raw), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    _check(library.espeak_Synth(*arguments), "synthesis")
    return b"".join(collected)


def phonemes(text: str, voice: str) -> str:
    """`text` in the signs of the IPA, its punctuation kept: what voices that were trained on phonemes read.

    `voice` is an eSpeak NG voice such as "en-us"; one that is not there is read as American English.
    """
    files = _voice_files()
    name = files.get(voice.lower(), files["en-us"])
    with _locked(), _loaded_library() as library:
        _check(library.espeak_SetVoiceByName(name.encode()), "voice")
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        parts = _PUNCTUATION.split(text)
        return "".join(
            _MARKS.get(part[0], part[0]) + " " if n % 2 else _ipa(library, part) for n, part in enumerate(parts)
        )


def _ipa(library: ctypes.CDLL, text: str) -> str:
    """Of a text without punctuation."""
    clauses = []
    left = ctypes.c_char_p(text.encode())
    while left.value:
        spoken = library.espeak_TextToPhonemes(ctypes.byref(left), _CHARS_UTF8, _IPA)
        clauses.append((spoken or b"").decode("utf-8", "ignore").strip())
    return _LANGUAGE_SWITCH.sub("", " ".join(filter(None, clauses)))


@contextmanager
def _locked() -> Iterator[None]:
    if not _lock.acquire(timeout=_LOCK_TIMEOUT_S):
        raise EngineError("eSpeak NG is held by a call that does not end", code="engine_stuck", retryable=True)
    try:
        yield
    finally:
        _lock.release()


@contextmanager
def _loaded_library() -> Iterator[ctypes.CDLL]:
    """A library without a past; the caller holds the lock."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Synth.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    try:
        rate = library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise EngineError(f"eSpeak NG did not start ({rate})", code="engine_failed")
        yield library
        library.espeak_Terminate()
    finally:
        _unload(library)


def _unload(library: ctypes.CDLL) -> None:
    close = ctypes.CDLL(None).dlclose
    close.argtypes = (ctypes.c_void_p,)
    close(library._handle)


@functools.cache
def _voice_files() -> dict[str, str]:
    """Voice name in lower case ("en-us") → its file below the data's lang directory ("gmw/en-US")."""
    files: dict[str, str] = {}
    with _locked(), _loaded_library() as library:
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        voices = library.espeak_ListVoices(None)
        position = 0
        while voices[position]:
            voice = voices[position].contents
            # `languages` begins with a priority byte, then the tag.
            files.setdefault(ctypes.string_at(voice.languages + 1).decode().lower(), voice.identifier.decode())
            position += 1
    return files


def _check(result: int, step: str) -> None:
    if result != 0:
        raise EngineError(f"eSpeak NG failed at {step} ({result})", code="engine_failed")


def _variant(section: str, value: object) -> str:
    directory = Path(espeakng_loader.get_data_path(), "voices", "!v")
    if isinstance(value, str) and (directory / value).is_file():
        return value
    raise ConfigError(f"TTS.{section}.variant", value, f"a file name of {directory.name}, such as f2 or m3")


def _number(section: str, key: str, value: object, least: int, most: int) -> int:
    if isinstance(value, int) and least <= value <= most:
        return value
    raise ConfigError(f"TTS.{section}.{key}", value, f"a whole number from {least} to {most}")
