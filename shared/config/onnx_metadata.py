"""What an ONNX file says about itself: its metadata, read without loading the model.

A file is a protobuf message; the metadata are its field 14, entries of a key (1) and a value (2), and the weights are
jumped over. Source: onnx.proto of github.com/onnx/onnx.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

METADATA_FIELD = 14
MAX_ENTRY_BYTES = 1024 * 1024
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
_SKIP_BYTES = {FIXED_64: 8, FIXED_32: 4}


def metadata_of(path: Path) -> dict[str, str] | None:
    """None if it is no ONNX file, or none that can be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            entries = [dict(_strings(body)) for body in _fields(file, size)]
    except (OSError, ValueError):
        return None
    return {entry[1]: entry.get(2, "") for entry in entries if 1 in entry}


def _fields(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The bodies of the metadata entries. Raises ValueError where the bytes are no protobuf message."""
    while (tag := _varint(file)) is not None:
        number, wire = tag >> 3, tag & 7
        if wire == LENGTH:
            length = _needed(file)
            if file.tell() + length > size:
                raise ValueError("cut off")
            if number == METADATA_FIELD and length <= MAX_ENTRY_BYTES:
                yield file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
        elif wire == VARINT:
            _needed(file)
        elif wire in _SKIP_BYTES and number:
            file.seek(_SKIP_BYTES[wire], os.SEEK_CUR)
        else:
            raise ValueError("no such wire type")


def _strings(body: bytes) -> Iterator[tuple[int, str]]:
    """The texts of an entry, by field number."""
    at = 0
    while at < len(body):
        number, wire = body[at] >> 3, body[at] & 7
        length, at = _varint_in(body, at + 1)
        if wire != LENGTH or at + length > len(body):
            raise ValueError("no entry")
        yield number, body[at : at + length].decode("utf-8", "replace")
        at += length


def _varint_in(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body):
        value |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not body[at - 1] & 0x80:
            return value, at
    raise ValueError("cut off")


def _needed(file: BinaryIO) -> int:
    value = _varint(file)
    if value is None:
        raise ValueError("cut off")
    return value


def _varint(file: BinaryIO) -> int | None:
    """None at the end of the file."""
    value = shift = 0
    while byte := file.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return value
        if shift > 63:
            raise ValueError("too long")
    if shift:
        raise ValueError("cut off")
    return None
