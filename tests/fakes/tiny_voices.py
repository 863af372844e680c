"""Voices of a few kilobytes, in the files of real ones: piper-tts and sherpa-onnx load and speak them.

Each sound is a short tone, higher for a higher number; noise is added as the real ones add it.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np

from tests.fakes.tiny_sherpa import Graph

RATE_HZ = 22_050
HOP = 1024
"""Samples of one sound."""
SIGNS = ["_", "^", "$", " ", *".,!?:;ˈˌːəɪʊɛæɑɔʌθðʃʒŋɹɡɐɚɜᵻɾ", *string.ascii_lowercase]
"""What eSpeak NG writes of English; padding, begin and end first."""
MELS = 80


def piper_voice(directory: Path, *, speakers: tuple[str, ...] = (), name: str = "en_US-tiny-low") -> Path:
    """`name.onnx` and `name.onnx.json`."""
    file = directory / f"{name}.onnx"
    inputs = {"input": ("i", 1, "t"), "input_lengths": ("i", 1), "scales": ("f", 3)}
    graph = Graph(1)
    numbers = "input"
    if speakers:
        inputs["sid"] = ("i", 1)
        numbers = graph.node("Add", "input", graph.node("Mul", "sid", graph.constant(np.array([9], np.int64))))
    _tones(graph, numbers, graph.node("Gather", "scales", graph.constant(np.array([0], np.int64))), to="output")
    graph.save(file, inputs, {"output": ("f", 1, 1, "n")})
    description = {
        "audio": {"sample_rate": RATE_HZ, "quality": "low"},
        "espeak": {"voice": "en-us"},
        "language": {"code": "en_US", "family": "en"},
        "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.5},
        "phoneme_type": "espeak",
        "phoneme_id_map": {sign: [number] for number, sign in enumerate(SIGNS)},
        "num_symbols": len(SIGNS),
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {speaker: number for number, speaker in enumerate(speakers)},
    }
    Path(f"{file}.json").write_text(json.dumps(description), "utf-8")
    return file


def vits_voice(directory: Path, *, lexicon: bool = False, speakers: int = 1) -> Path:
    """Of sherpa-onnx; with a lexicon it reads words, without one phonemes."""
    graph = Graph(2)
    inputs: dict[str, tuple[str | int, ...]]
    if lexicon:
        noise = "noise_scale"
        inputs = {"x": ("i", 1, "t"), "x_length": ("i", 1)}
        inputs |= dict.fromkeys((noise, "length_scale", "noise_scale_w"), ("f", 1))
        if speakers > 1:
            inputs["sid"] = ("i", 1)
        _tones(graph, "x", noise, to="y")
        outputs = {"y": ("f", 1, 1, "n")}
    else:
        inputs = {"input": ("i", 1, "t"), "input_lengths": ("i", 1), "scales": ("f", 3)}
        noise = graph.node("Gather", "scales", graph.constant(np.array([0], np.int64)))
        _tones(graph, "input", noise, to="output")
        outputs = {"output": ("f", 1, 1, "n")}
    graph.save(
        directory / "model.onnx",
        inputs,
        outputs,
        model_type="vits",
        comment="tiny" if lexicon else "piper",
        language="Chinese" if lexicon else "English",
        voice="en-us",
        has_espeak=0 if lexicon else 1,
        add_blank=1,
        n_speakers=speakers,
        sample_rate=RATE_HZ,
    )
    _tokens(directory)
    if lexicon:
        _lexicon(directory / "lexicon.txt")
    return directory


def kokoro_voice(directory: Path, *, speakers: int = 2) -> Path:
    graph = Graph(3)
    zero = graph.constant(np.zeros(1, np.float32))
    style = graph.node("ReduceMean", "style", axes=[1], keepdims=0)
    still = graph.node("Mul", graph.node("Add", style, "speed"), zero)
    tones = _tones(graph, "tokens", still)
    graph.node("Reshape", tones, graph.constant(np.array([-1], np.int64)), to="audio")
    graph.save(
        directory / "model.onnx",
        {"tokens": ("i", 1, "t"), "style": ("f", 1, 256), "speed": ("f", 1)},
        {"audio": ("f", "n")},
        model_type="kokoro",
        language="English",
        voice="en-us",
        has_espeak=1,
        version=1,
        sample_rate=24_000,
        n_speakers=speakers,
        style_dim="510,1,256",
        max_token_len=510,
        speaker_names=",".join(f"s{n}" for n in range(speakers)),
    )
    np.zeros((speakers, 510, 1, 256), np.float32).tofile(directory / "voices.bin")
    _tokens(directory)
    return directory


def matcha_voice(directory: Path) -> Path:
    """An acoustic model and a vocoder."""
    graph = Graph(4)
    inputs = {"x": ("i", 1, "t"), "x_length": ("i", 1), "noise_scale": ("f", 1), "length_scale": ("f", 1)}
    line = graph.node("Unsqueeze", _float(graph, "x"), graph.constant(np.array([1], np.int64)))
    still = graph.node("Mul", graph.node("Add", "noise_scale", "length_scale"), graph.constant(np.float32(0)))
    line = graph.node("Add", line, still)
    graph.node("Expand", line, graph.constant(np.array([1, MELS, 1], np.int64)), to="mel")
    graph.save(
        directory / "model-steps-3.onnx",
        inputs,
        {"mel": ("f", 1, MELS, "t")},
        model_type="matcha-tts",
        language="Chinese",
        voice="zh",
        has_espeak=0,
        jieba=1,
        n_speakers=1,
        sample_rate=RATE_HZ,
        version=1,
        pad_id=0,
        use_eos_bos=0,
        num_ode_steps=3,
    )
    graph = Graph(5)
    numbers = graph.node("ReduceMean", "mel", axes=[1], keepdims=0)
    _tones(graph, numbers, graph.constant(np.zeros(1, np.float32)), to="audio")
    graph.save(
        directory / "hifigan_v2.onnx", {"mel": ("f", 1, MELS, "t")}, {"audio": ("f", 1, 1, "n")}, model_type="hifigan"
    )
    _tokens(directory)
    _lexicon(directory / "lexicon.txt")
    return directory


def _float(graph: Graph, name: str) -> str:
    # The operator's own `to` is the name of Graph.node's argument for the output.
    return graph.node("CastLike", name, graph.constant(np.float32(0)))


def _tones(graph: Graph, numbers: str, noise: str, *, to: str | None = None) -> str:
    """HOP samples of a tone for each number; `noise` is a scale of [1]."""
    pitch = graph.node("Unsqueeze", _float(graph, numbers), graph.constant(np.array([2], np.int64)))
    time = graph.constant((np.arange(HOP) / RATE_HZ * 2 * np.pi * 60).astype(np.float32).reshape(1, 1, HOP))
    base = graph.node("Add", pitch, graph.constant(np.float32(2)))
    tones = graph.node("Mul", graph.node("Sin", graph.node("Mul", base, time)), graph.constant(np.float32(0.3)))
    grain = graph.node("Mul", graph.node("RandomNormalLike", tones, scale=0.05), noise)
    whole = graph.node("Add", tones, grain)
    return graph.node("Reshape", whole, graph.constant(np.array([1, 1, -1], np.int64)), to=to)


def _tokens(directory: Path) -> None:
    lines = (f"{sign} {number}" for number, sign in enumerate(SIGNS))
    (directory / "tokens.txt").write_text("\n".join(lines) + "\n", "utf-8")


def _lexicon(file: Path) -> None:
    """Each letter, two English words and four Chinese signs."""
    words = {letter: letter for letter in string.ascii_lowercase} | {"hello": "h ə l o", "world": "w ɜ l d"}
    words |= {"你": "n i", "好": "h a o", "世": "s i", "界": "j i e"}
    file.write_text("".join(f"{word} {sounds}\n" for word, sounds in words.items()), "utf-8")
