"""Runs one target under atheris (an extra: `pip install atheris`), which is guided by coverage.

It prints how many inputs it tried. What makes a target fail is written to crash-… in the directory of the corpus, and
the exit code is not 0.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

MAX_INPUT_BYTES = 8192
SLOWEST_INPUT_S = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("target", choices=("wire", "request", "envelope"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="kept between runs; default: a new one")
    args = parser.parse_args()
    corpus: Path = args.corpus or Path(tempfile.mkdtemp(prefix="xiaozhi-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    fuzz(args.target, args.seconds, corpus)


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Does not return: libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")  # an extra

    with atheris.instrument_imports(include=["router", "shared", "bench", "json"]):
        from bench.fuzz.targets import TARGETS, seeds  # noqa: PLC0415 (instrumented)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={SLOWEST_INPUT_S}",
        f"-artifact_prefix={corpus}/",
        "-keep_seed=1",
        "-reduce_inputs=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
