"""What can go wrong with the store, by what its user should do about it.

* StoreDownError: now it does not work, later it may (locked, full, unreachable, too slow). Keep the work and try again.
* SupersededError: the device belongs to somebody else now. Stop; trying again is of no use.
* StoreRefusedError: this very work will never be taken (the database says it breaks a rule). Drop it and count it.
* SchemaError: the tables are older (SchemaOldError) or newer (SchemaNewerError) than this program.

Messages hold codes and versions, never a statement, a parameter or a URL: those carry transcripts and passwords.
"""

from __future__ import annotations

from shared.errors import XiaozhiError


class StoreError(XiaozhiError):
    """Base of the store's errors."""

    code = "store"


class StoreDownError(StoreError):
    """The database cannot be used at the moment; nothing was changed. `code` is one of a few words."""

    code = "store_down"


class StoreRefusedError(StoreError):
    """The database refuses this statement for good; nothing was changed."""

    code = "store_refused"


class SupersededError(StoreError):
    """The claim's device has been claimed again, or forgotten; nothing was changed."""

    code = "superseded"

    def __init__(self, epoch: int, now_at: int | None) -> None:
        """`now_at`: the device's epoch as it is; None = the device is not known any more."""
        super().__init__(f"claim of epoch {epoch} was superseded by {now_at if now_at is not None else 'a removal'}")
        self.epoch = epoch
        self.now_at = now_at


class SchemaError(StoreError):
    """The tables do not fit this program."""

    code = "store_schema"

    def __init__(self, found: str | None, wanted: str, message: str) -> None:
        super().__init__(message)
        self.found = found
        self.wanted = wanted


class SchemaOldError(SchemaError):
    """Nobody has brought the tables up to date within the time given."""

    code = "store_schema_old"


class SchemaNewerError(SchemaError):
    """A newer program has changed the tables; this one must not write to them."""

    code = "store_schema_newer"
