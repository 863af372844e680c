"""What kind of speech model lies in a directory, and what a wrong one is refused with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.asr_models import FAMILIES, SHERPA_KINDS, WHISPER
from shared.config.model_files import Model, find_model, need_package
from shared.config.onnx_metadata import metadata_of
from shared.errors import ConfigError

pytestmark = pytest.mark.unit


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def entry(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def onnx(**metadata: str) -> bytes:
    """An ONNX file by hand: version, some weights, the metadata."""
    said = [entry(1, key.encode()) + entry(2, value.encode()) for key, value in metadata.items()]
    return varint(1 << 3) + varint(8) + entry(7, bytes(300)) + b"".join(entry(14, one) for one in said)


def lay(directory: Path, chief: str = "", others: str = "", **metadata: str) -> str:
    """A directory with these files, the chief one with metadata."""
    directory.mkdir(exist_ok=True)
    for name in others.split():
        (directory / name).write_bytes(b"something")
    if chief:
        (directory / chief).write_bytes(onnx(**metadata))
    return str(directory)


def found(directory: str, model_type: str = "") -> Model:
    return find_model("ASR.S.model_dir", directory, SHERPA_KINDS, FAMILIES.get(model_type, ()))


THREE = "decoder-epoch-99-avg-1.onnx joiner-epoch-99-avg-1.int8.onnx tokens.txt"
LAYOUTS = [
    ("sense_voice", "model.int8.onnx", "tokens.txt README.md", {"model_type": "sense_voice_ctc"}),
    ("paraformer", "model.onnx", "tokens.txt", {"model_type": "paraformer"}),
    ("zipformer_ctc", "model.int8.onnx", "tokens.txt", {"model_type": "zipformer2_ctc"}),
    ("nemo_ctc", "model.onnx", "tokens.txt", {"model_type": "EncDecCTCModelBPE"}),
    ("transducer", "encoder-epoch-99-avg-1.int8.onnx", THREE, {"comment": "non-streaming zipformer2"}),
    ("streaming_transducer", "encoder-epoch-99-avg-1.onnx", THREE, {"decode_chunk_len": "32", "T": "45"}),
    ("streaming_paraformer", "encoder.int8.onnx", "decoder.int8.onnx tokens.txt", {"encoder_output_size": "512"}),
    ("streaming_ctc", "ctc-model.int8.onnx", "tokens.txt", {"model_type": "zipformer2", "decode_chunk_len": "32"}),
    ("whisper", "base-encoder.int8.onnx", "base-decoder.int8.onnx base-tokens.txt", {"model_type": "whisper-base"}),
]


@pytest.mark.parametrize(("kind", "chief", "others", "metadata"), LAYOUTS, ids=[layout[0] for layout in LAYOUTS])
def test_a_kind_is_known_by_its_files(
    tmp_path: Path, kind: str, chief: str, others: str, metadata: dict[str, str]
) -> None:
    """Names and metadata of the release pages' directories; each part is a file that is there."""
    model = found(lay(tmp_path, chief, others, **metadata))
    assert model.kind == kind
    assert model.metadata == metadata
    assert all(Path(path).is_file() for path in model.files.values())
    assert tmp_path / chief in map(Path, model.files.values())


def test_quantised_files_are_taken_first(tmp_path: Path) -> None:
    """Except a transducer's decoder, where it gains nothing."""
    others = f"{THREE} decoder-epoch-99-avg-1.int8.onnx joiner-epoch-99-avg-1.onnx encoder-epoch-99-avg-1.onnx"
    files = found(lay(tmp_path, "encoder-epoch-99-avg-1.int8.onnx", others)).files
    names = {part: Path(path).name for part, path in files.items()}
    assert names == {
        "encoder": "encoder-epoch-99-avg-1.int8.onnx",
        "decoder": "decoder-epoch-99-avg-1.onnx",
        "joiner": "joiner-epoch-99-avg-1.int8.onnx",
        "tokens": "tokens.txt",
    }


def refusal(directory: str, model_type: str = "") -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        found(directory, model_type)
    assert (refused.value.key, refused.value.value) == ("ASR.S.model_dir", directory)
    return refused.value


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With what was looked for and where to get it."""
    words = refusal(str(tmp_path / "gone"), "sense_voice").expected
    assert "SenseVoice (*model*.onnx, *tokens.txt); there is no such directory" in words
    assert "Get one: https://github.com/k2-fsa/sherpa-onnx/releases/" in words


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """File by file, if the operator has said which kind it should be."""
    assert "it has no *tokens.txt" in refusal(lay(tmp_path, "model.onnx"), "sense_voice").expected


def test_a_model_of_another_framework_is_recognised(tmp_path: Path) -> None:
    """Today's fun_local directories hold a PyTorch model."""
    words = refusal(lay(tmp_path, "", "model.pt config.yaml tokens.json")).expected
    assert "it holds a PyTorch model" in words


def test_the_wrong_kind_is_named(tmp_path: Path) -> None:
    """What it should be, and what it is."""
    words = refusal(lay(tmp_path, "model.onnx", "tokens.txt", model_type="paraformer"), "sense_voice").expected
    assert words.startswith("a directory with SenseVoice") and "it holds Paraformer" in words


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    """With every kind that would do."""
    words = refusal(str(tmp_path)).expected
    assert "it is empty" in words and all(kind.title in words for kind in SHERPA_KINDS)


def test_a_whisper_directory_needs_its_tokenizer(tmp_path: Path) -> None:
    """Without it the library would fetch one at run time."""
    directory = lay(tmp_path, "", "model.bin config.json vocabulary.txt")
    with pytest.raises(ConfigError, match=r"it has no tokenizer\.json"):
        find_model("ASR.W.model_dir", directory, (WHISPER,))
    lay(tmp_path, "", "tokenizer.json")
    assert find_model("ASR.W.model_dir", directory, (WHISPER,)).kind == "whisper"


def test_a_library_that_is_not_installed_is_refused_with_how_to_get_it() -> None:
    """The extra's name."""
    with pytest.raises(ConfigError, match=r"xiaozhi-cluster\[whisper\]") as refused:
        need_package("ASR.W.type", "whisper", "no_such_package", "whisper")
    assert refused.value.key == "ASR.W.type"
    need_package("ASR.W.type", "whisper", "json", "whisper")


def test_metadata_are_read_past_the_weights(tmp_path: Path) -> None:
    """Whatever stands before them is jumped over."""
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx(model_type="paraformer", neg_mean="1," * 1000))
    assert metadata_of(file) == {"model_type": "paraformer", "neg_mean": "1," * 1000}


def test_a_file_that_was_cut_off_has_no_metadata(tmp_path: Path) -> None:
    """A download that broke off is no model."""
    file = tmp_path / "model.onnx"
    whole = onnx(model_type="paraformer")
    for length in range(2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert metadata_of(file) in (None, {}), length
    assert metadata_of(tmp_path / "none.onnx") is None


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    """A wrong file is no crash."""
    file = tmp_path_factory.getbasetemp() / "any.onnx"
    file.write_bytes(body)
    assert metadata_of(file) is None or isinstance(metadata_of(file), dict)
