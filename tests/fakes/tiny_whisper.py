"""A very small Whisper model with random weights, in the files of a real one: the library loads and runs it.

What it says is letters without sense, but always the same for the same sound. Its few tokens make it an English one.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

DIM, HEADS, LAYERS, MELS = 32, 2, 1, 80
SOUND_STEPS, TEXT_STEPS = 1500, 448
LETTERS = ["Ġ", *string.ascii_lowercase]
"""What it says; Ġ is a space."""
OTHERS = [chr(code) for code in range(0x21, 0x17F) if chr(code).isprintable() and chr(code) not in LETTERS]
"""The rest of a byte-level alphabet, which the library asks for."""
SPECIAL = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"),
    *("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
    *(f"<|{step * 0.02:.2f}|>" for step in range(1501)),
]
VOCABULARY = LETTERS + OTHERS + SPECIAL


def write_tiny_whisper(directory: Path, seed: int = 0) -> Path:
    """Fills `directory`, which must not exist."""
    spec = ctranslate2.specs.WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    _fill(spec, np.random.default_rng(seed))
    spec.config.lang_ids = [VOCABULARY.index(tag) for tag in ("<|en|>", "<|zh|>")]
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [VOCABULARY.index("<|endoftext|>")]
    spec.config.alignment_heads = [[0, 0]]
    spec.register_vocabulary(VOCABULARY)
    spec.validate()
    spec.optimize(quantization="float32")
    directory.mkdir(parents=True)
    spec.save(str(directory))
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer()), "utf-8")
    return directory


def _fill(spec: Any, random: np.random.Generator) -> None:
    def weights(*shape: int, scale: float = 0.3) -> Any:
        return random.normal(0, scale, shape).astype(np.float32)

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(DIM, MELS, 3), weights(DIM)
    encoder.conv2.weight, encoder.conv2.bias = weights(DIM, DIM, 3), weights(DIM)
    encoder.position_encodings.encodings = weights(SOUND_STEPS, DIM)
    decoder.embeddings.weight = weights(len(VOCABULARY), DIM, scale=1.0)
    decoder.projection.weight = weights(len(VOCABULARY), DIM, scale=1.0)
    decoder.projection.weight[len(LETTERS) :] = 0.0
    for tag in ("<|endoftext|>", "<|en|>", "<|zh|>"):
        decoder.projection.weight[VOCABULARY.index(tag)] = weights(DIM)
    decoder.position_encodings.encodings = weights(TEXT_STEPS, DIM)
    for norm in (encoder.layer_norm, decoder.layer_norm):
        _norm(norm)
    for layer in (*encoder.layer, *decoder.layer):
        _norm(layer.self_attention.layer_norm)
        _linear(layer.self_attention.linear[0], 3 * DIM, DIM, weights)
        _linear(layer.self_attention.linear[1], DIM, DIM, weights)
        _norm(layer.ffn.layer_norm)
        _linear(layer.ffn.linear_0, 4 * DIM, DIM, weights)
        _linear(layer.ffn.linear_1, DIM, 4 * DIM, weights)
    for layer in decoder.layer:
        _norm(layer.attention.layer_norm)
        for linear, size in zip(layer.attention.linear, (DIM, 2 * DIM, DIM), strict=True):
            linear.weight, linear.bias = weights(size, DIM, scale=1.0), weights(size)


def _norm(spec: Any) -> None:
    spec.gamma, spec.beta = np.ones(DIM, np.float32), np.zeros(DIM, np.float32)


def _linear(spec: Any, outputs: int, inputs: int, weights: Any) -> None:
    spec.weight, spec.bias = weights(outputs, inputs), weights(outputs)


def _tokenizer() -> dict[str, Any]:
    first = len(LETTERS + OTHERS)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": first + at, "content": content, "special": True, **flags} for at, content in enumerate(SPECIAL[:10])
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": {letter: at for at, letter in enumerate(LETTERS + OTHERS)},
            "merges": [],
        },
    }
