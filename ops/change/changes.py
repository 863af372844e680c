"""What an operator asks for, as steps: scaling, draining, restarting all at once or one slot at a time. Pure.

Rules
- Slots are numbered from 0. `scale ROLE N` wants the first N: missing ones are started one after the other, and only
  when they all have joined do the others leave, together.
- A rolling restart stops one slot at a time. A role that has only one gets a second slot first, which leaves after.
- Order of roles: sessions and speech first, so that a new router finds them; web, which tells of them, last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ops.change.course import Down, Unit, Up
from ops.process import ProcessName
from shared.errors import XiaozhiError

ORDER = ("session", "asr", "tts", "router", "web")
NEVER_EMPTY = ("router", "web")


class RefusedError(XiaozhiError):
    """The operator asked for something that cannot or should not be done; nothing was changed."""

    code = "refused"


def slots_of(names: Iterable[ProcessName]) -> dict[str, int]:
    """How many slots supervisord has for each role."""
    return Counter(name.program for name in names)


def parse_words(words: Sequence[str], slots: Mapping[str, int]) -> list[ProcessName | str]:
    """Roles and slots as they were typed. Raises RefusedError."""
    return [word if word in slots else parse_name(word, slots) for word in words]


def parse_name(word: str, slots: Mapping[str, int]) -> ProcessName:
    """One slot, such as asr_01. Raises RefusedError."""
    try:
        name = ProcessName.parse(word)
    except ValueError:
        name = ProcessName(word, 0)
    if not 0 <= name.slot < slots.get(name.program, 0):
        roles = ", ".join(f"{role} (slots 0 to {count - 1})" for role, count in slots.items())
        raise RefusedError(f"there is no {word}; roles are {roles}, a slot is written like asr_01")
    return name


def targets_of(
    words: Sequence[str], wanted: Collection[ProcessName], slots: Mapping[str, int]
) -> tuple[ProcessName, ...]:
    """Every slot that is meant, in the order of a rolling restart: of a role all wanted ones, without words everything.

    Raises RefusedError.
    """
    parsed = parse_words(words, slots) or list(slots)
    found = {name for name in wanted if name.program in parsed} | {name for name in parsed if not isinstance(name, str)}
    return tuple(sorted(found, key=_rank))


def scaling(role: str, count: int, wanted: Collection[ProcessName], slots: Mapping[str, int]) -> list[Unit]:
    """The first `count` slots of `role`. Raises RefusedError."""
    least, most = int(role in NEVER_EMPTY), slots.get(role, 0)
    if role not in slots:
        raise RefusedError(f"there is no role {role}; roles are {', '.join(slots)}")
    if not least <= count <= most:
        raise RefusedError(f"{role} can have {least} to {most} processes, not {count}")
    new = {ProcessName(role, slot) for slot in range(count)}
    old = {name for name in wanted if name.program == role}
    ups = [(Up(name, is_new=True),) for name in sorted(new - old, key=_rank)]
    extra = tuple(sorted(old - new, key=_rank, reverse=True))
    return [*ups, (Down(extra),)] if extra else [*ups]


def draining(name: ProcessName) -> list[Unit]:
    return [(Down((name,)),)]


def restarting(targets: Sequence[ProcessName], wanted: Collection[ProcessName]) -> list[Unit]:
    """All at once."""
    down = Down(targets_in(targets, wanted), stays_out=False)
    return [(down, *(Up(name, is_new=name not in wanted) for name in targets))]


def rolling(targets: Sequence[ProcessName], wanted: Collection[ProcessName], slots: Mapping[str, int]) -> list[Unit]:
    """One at a time. Raises RefusedError if a role has one slot and could have no second."""
    return [_replaced(target, wanted, slots) for target in targets]


def targets_in(targets: Sequence[ProcessName], wanted: Collection[ProcessName]) -> tuple[ProcessName, ...]:
    return tuple(name for name in targets if name in wanted)


def _replaced(target: ProcessName, wanted: Collection[ProcessName], slots: Mapping[str, int]) -> Unit:
    if target not in wanted:
        return (Up(target, is_new=True),)
    swap = (Down((target,), stays_out=False), Up(target))
    siblings = [name for name in wanted if name.program == target.program and name != target]
    if siblings:
        return swap
    spare = ProcessName(target.program, int(target.slot == 0))
    if spare.slot >= slots[target.program]:
        raise RefusedError(f"{target} is the only slot of its role: restart it without --rolling")
    return (Up(spare, is_new=True), *swap, Down((spare,)))


def _rank(name: ProcessName) -> tuple[int, str, int]:
    place = ORDER.index(name.program) if name.program in ORDER else len(ORDER)
    return place, name.program, name.slot
