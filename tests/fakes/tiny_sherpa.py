"""Speech models of a few kilobytes with random weights, in the files of real ones: sherpa-onnx loads and runs them.

They say letters without sense, but always the same for the same sound.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MELS, WINDOW = 80, 7
"""A frame's channels; frames that SenseVoice and Paraformer take together, every sixth time."""
WIDE = MELS * WINDOW
LETTERS = ["<blk>", "<unk>", *string.ascii_lowercase]
SENSE_VOICE_TOKENS = ["<unk>", "<s>", "</s>", *(f"▁{letter}" for letter in string.ascii_lowercase)]
TAGS = ["<|zh|>", "<|NEUTRAL|>", "<|Speech|>", "<|woitn|>"]
"""What SenseVoice says before the text: language, emotion, event, normalisation."""
JOIN = 16
CHUNK_FRAMES, STEP_FRAMES = 17, 8


class Graph:
    """Nodes and weights on their way to a file."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def constant(self, values: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def node(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        output = to or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def save(self, path: Path, inputs: dict[str, Any], outputs: dict[str, Any], **metadata: object) -> None:
        kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "s": TensorProto.INT32}

        def values(of: dict[str, Any]) -> list[Any]:
            return [helper.make_tensor_value_info(name, kinds[kind], shape) for name, (kind, *shape) in of.items()]

        graph = helper.make_graph(self._nodes, path.stem, values(inputs), values(outputs), self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {name: str(value) for name, value in metadata.items()})
        onnx.save(model, str(path))


def write_tokens(path: Path, tokens: Sequence[str]) -> None:
    path.write_text("".join(f"{token} {number}\n" for number, token in enumerate(tokens)), "utf-8")


def _joined(values: np.ndarray[Any, Any]) -> str:
    return ",".join(f"{value:.4f}" for value in values)


def _emitting(graph: Graph, wide: int, tokens: int, silent: int = 0) -> str:
    """Output weights; the last `silent` tokens never have the best of it."""
    weights = graph.random.normal(0, 1.0, (wide, tokens)).astype(np.float32)
    weights[:, tokens - silent :] = 0.0
    return graph.constant(weights)


def write_tiny_sense_voice(directory: Path, seed: int = 0) -> Path:
    """Hears utterances whole; its language tag is always zh."""
    directory.mkdir(parents=True)
    tokens = SENSE_VOICE_TOKENS + TAGS
    write_tokens(directory / "tokens.txt", tokens)
    graph = Graph(seed)
    said = graph.node("MatMul", graph.node("Tanh", "x"), _emitting(graph, WIDE, len(tokens), silent=len(TAGS)))
    tags = np.full((1, len(TAGS), len(tokens)), -100, np.float32)
    for at, tag in enumerate(TAGS):
        tags[0, at, tokens.index(tag)] = 100
    graph.node("Concat", graph.constant(tags), said, to="logits", axis=1)
    numbers = dict.fromkeys(("x_length", "language", "text_norm"), ("s", "N"))
    graph.save(
        directory / "model.int8.onnx",
        {"x": ("f", "N", "T", WIDE)} | numbers,
        {"logits": ("f", "N", "L", len(tokens))},
        model_type="sense_voice_ctc",
        vocab_size=len(tokens),
        lfr_window_size=WINDOW,
        lfr_window_shift=6,
        normalize_samples=0,
        neg_mean=_joined(np.full(WIDE, -8.0)),
        inv_stddev=_joined(np.full(WIDE, 0.2)),
        lang_auto=0,
        lang_zh=3,
        lang_en=4,
        lang_yue=7,
        lang_ja=11,
        lang_ko=12,
        with_itn=14,
        without_itn=15,
    )
    return directory


def write_tiny_streaming_transducer(directory: Path, seed: int = 0) -> Path:
    """Tells partials: the smallest of the streaming transducers, an LSTM's encoder without the LSTM."""
    directory.mkdir(parents=True)
    write_tokens(directory / "tokens.txt", LETTERS)
    _write_encoder(directory / "encoder.onnx", Graph(seed))
    _write_decoder(directory / "decoder.onnx", Graph(seed + 1))
    _write_joiner(directory / "joiner.onnx", Graph(seed + 2))
    return directory


def _write_encoder(path: Path, graph: Graph) -> None:
    ends = [graph.constant(np.array([value], np.int64)) for value in (0, 2**31 - 1, 1, 4)]
    thinned = graph.node("Slice", "x", ends[0], ends[1], ends[2], ends[3])
    graph.node("Tanh", graph.node("MatMul", thinned, graph.weights(MELS, JOIN, scale=0.1)), to="encoder_out")
    for name in ("h", "c"):
        graph.node("Identity", name, to=f"new_{name}")
    states = dict.fromkeys(("h", "c"), ("f", 1, "N", 4))
    graph.save(
        path,
        {"x": ("f", "N", "T", MELS)} | states,
        {"encoder_out": ("f", "N", "U", JOIN)} | {f"new_{name}": ("f", 1, "N", 4) for name in states},
        model_type="lstm",
        num_encoder_layers=1,
        T=CHUNK_FRAMES,
        decode_chunk_len=STEP_FRAMES,
        rnn_hidden_size=4,
        d_model=4,
    )


def _write_decoder(path: Path, graph: Graph) -> None:
    context = graph.node("Gather", graph.weights(len(LETTERS), JOIN, scale=0.5), "y")
    graph.node("ReduceMean", context, to="decoder_out", axes=[1], keepdims=0)
    graph.save(
        path,
        {"y": ("i", "N", 2)},
        {"decoder_out": ("f", "N", JOIN)},
        context_size=2,
        vocab_size=len(LETTERS),
    )


def _write_joiner(path: Path, graph: Graph) -> None:
    both = graph.node("Tanh", graph.node("Add", "encoder_out", "decoder_out"))
    graph.node("MatMul", both, _emitting(graph, JOIN, len(LETTERS)), to="logit")
    graph.save(
        path,
        {"encoder_out": ("f", "N", JOIN), "decoder_out": ("f", "N", JOIN)},
        {"logit": ("f", "N", len(LETTERS))},
        joiner_dim=JOIN,
    )
