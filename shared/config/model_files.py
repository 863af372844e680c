"""What kind of speech model lies in a directory, and which file plays which part.

Rules: a kind is a set of files, and what the chief one says about itself (its ONNX metadata). A directory that fits no
kind is refused with what was looked for, what is missing and where such a model comes from; so is one that holds
another kind than the one asked for. Quantised files (int8) are taken first, as they are smaller and faster.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from shared.config.model_kinds import Kind, Metadata
from shared.config.onnx_metadata import metadata_of
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Model:
    """What was found."""

    kind: str
    directory: str
    files: Mapping[str, str]
    """Part → path; optional parts that are missing are not in it."""
    metadata: Metadata


def find_model(key: str, directory: str, kinds: Sequence[Kind], wanted: Collection[str] = ()) -> Model:
    """The model in a directory, of one of the kinds `wanted` if any are given. Raises ConfigError of the key `key`."""
    asked = [kind for kind in kinds if not wanted or kind.name in wanted]
    try:
        names = sorted(path.name for path in Path(directory).iterdir())
    except OSError:
        raise ConfigError(key, directory, _expected(asked, "there is no such directory")) from None
    found = [model for kind in kinds if (model := _model_of(kind, directory, names)) is not None]
    chosen = [model for model in found if not wanted or model.kind in wanted]
    if chosen:
        return chosen[0]
    raise ConfigError(key, directory, _expected(asked, _fault(asked, kinds, found, names)))


def need_package(key: str, type_name: str, package: str, extra: str) -> None:
    """Refuse an engine whose library is not installed. Raises ConfigError."""
    if find_spec(package) is None:
        raise ConfigError(
            key, type_name, f'its library, which is not installed: run pip install "xiaozhi-cluster[{extra}]"'
        )


def _model_of(kind: Kind, directory: str, names: Sequence[str]) -> Model | None:
    files = {part: _first(names, patterns) for part, patterns in kind.parts.items()}
    if None in files.values():
        return None
    files |= {part: _first(names, patterns) for part, patterns in kind.extras.items()}
    paths = {part: str(Path(directory, name)) for part, name in files.items() if name is not None}
    chief = paths[next(iter(kind.parts))]
    metadata = (metadata_of(Path(chief)) if chief.endswith(".onnx") else None) or {}
    return Model(kind.name, directory, paths, metadata) if kind.is_it(metadata) else None


def _first(names: Sequence[str], patterns: Sequence[str]) -> str | None:
    fitting = (name for pattern in patterns for name in names if fnmatchcase(name.lower(), pattern))
    return next(fitting, None)


def _expected(asked: Sequence[Kind], fault: str) -> str:
    looked_for = " or ".join(kind.looked_for for kind in asked)
    sources = sorted({kind.source for kind in asked if kind.source})
    return f"a directory with {looked_for}; {fault}" + "".join(f". Get one: {source}" for source in sources)


def _fault(asked: Sequence[Kind], kinds: Sequence[Kind], found: Sequence[Model], names: Sequence[str]) -> str:
    if found:
        other = next(kind.title for kind in kinds if kind.name == found[0].kind)
        return f"it holds {other}"
    if len(asked) == 1:
        missing = [patterns[-1] for patterns in asked[0].parts.values() if _first(names, patterns) is None]
        if missing:
            return f"it has no {' and no '.join(missing)}"
    if _first(names, ("*.pt", "*.pth", "*.safetensors")):
        return "it holds a PyTorch model, which must be converted or replaced"
    return "what it holds is none of them" if names else "it is empty"
