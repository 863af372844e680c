"""The store's tables against this program. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ops.doctor.finding import Finding, fail, ok, warn

CHECK = "store"


@dataclass(frozen=True, slots=True)
class StoreFact:
    """`fault` is the code of the store's error, "" = it fits; `detail` its words, which never show a URL."""

    exists: bool
    fault: str = ""
    detail: str = ""


def judge_store(fact: StoreFact) -> Iterator[Finding]:
    if not fact.exists:
        yield ok(CHECK, "it will be made at the first start")
    elif not fact.fault:
        yield ok(CHECK, "its tables fit this program")
    elif fact.fault == "store_schema_old":
        yield warn(CHECK, fact.detail, "xiaozhi up brings them up to date")
    elif fact.fault == "store_schema_newer":
        yield fail(CHECK, fact.detail, "use the newer program, or another XZ_DATA_DIR")
    else:
        yield fail(CHECK, f"it cannot be used ({fact.fault}): {fact.detail}", "is the database running, the disk full?")
