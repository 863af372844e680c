"""How long a lost worker is missed: python -m bench.recovery [--rounds N] [--faults kill freeze hold_gil hang].

A cluster of its own with scripted engines, two workers of each role, and devices held in every phase; each round one
worker of each role is lost, in the way that is measured. `kill`: SIGKILL, role after role. `freeze`: SIGSTOP.
`hold_gil`: a call that keeps the interpreter's lock. `hang`: a compute thread of the voice that never comes back.

Time to recover: from the fault until another worker's engine has come to the same point, or, where no engine is at
work, until another worker has the stream. Then a replay is measured: from the loss of a recogniser until its successor
has heard the utterance so far, by how long that was. What the devices notice is judged as in tests/recovery.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.fakes.actor import FRAME_S, POINTS, Actor, utterance
from tests.fakes.sounds import Run
from tests.fakes.stage import Point
from tests.fakes.troupe import ROLES, SERVED_BY, SLOTS, Troupe, performance, slot_of, theatre

FAULTS = ("kill", "freeze", "hold_gil", "hang")
POINT_OF: dict[str, tuple[Point, ...]] = {
    "asr": ("recognising",),
    "session": ("thinking",),
    "tts": ("synthesising", "speaking"),
}
"""Where an engine of the role holds somebody, and is come to again by its successor."""

UTTERANCES_S = (2, 5, 10, 20)
PACKETS_PER_S = 17
Case = tuple[str, str, str]
"""Fault, role and phase."""


@dataclass
class Findings:
    seconds: dict[Case, list[float]] = field(default_factory=lambda: defaultdict(list))
    turns: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cut: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Replies that ended in an apology."""
    lost: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Turns that were not heard or not answered as they should be, connections that ended."""
    missing_frames: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    replay: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))


async def lose(troupe: Troupe, findings: Findings, fault: str, slot: int) -> None:
    """One round."""
    await troupe.set_scene()
    sessions = set((await troupe.streams_on(f"session-{slot}")).values())
    roles = ("tts",) if fault == "hang" else ROLES
    if fault == "kill":
        for role in ("tts", "asr", "session"):
            await lose_roles(troupe, findings, fault, slot, (role,))
    else:
        await lose_roles(troupe, findings, fault, slot, roles)
    await troupe.finish()
    for actor in troupe.actors:
        judge(actor, findings, fault, may_be_cut=actor.mac in sessions and actor.phase == "answering")
    if fault == "freeze":
        troupe.thaw(*(f"{role}-{slot}" for role in roles))
    elif fault == "hold_gil":
        for role in roles:
            await troupe.ended(f"{role}-{slot}")
    await troupe.restart(*(f"{role}-{one}" for role in ROLES for one in SLOTS))


async def lose_roles(troupe: Troupe, findings: Findings, fault: str, slot: int, roles: Sequence[str]) -> None:
    names = [f"{role}-{slot}" for role in roles]
    victims = {role: await troupe.streams_on(name) for role, name in zip(roles, names, strict=True)}
    began_s = await inflict(troupe, fault, names)
    async with asyncio.TaskGroup() as group:
        for role, streams in victims.items():
            measured = measure(troupe, findings, (fault, role), streams, began_s)
            group.create_task(measured, name=f"measure-{role}")


async def inflict(troupe: Troupe, fault: str, names: Sequence[str]) -> float:
    """The time of the fault, as files have it. Who does not depend on these processes goes on."""
    pids = {troupe.cluster.processes[name].pid for name in names}
    began_s = time.time()
    if fault == "kill":
        for name in names:
            troupe.cluster.forgiven.add(name)
            troupe.cluster.processes[name].kill()
        return began_s
    if fault == "freeze":
        troupe.freeze(*names)
    else:
        for name in names:
            await troupe.wedge(name, POINT_OF[name.partition("-")[0]][0], "hang" if fault == "hang" else "hold_gil")
    for actor in troupe.actors:
        if actor.phase in POINTS and actor.held_in() not in pids:
            actor.go_on()
    return began_s


async def measure(
    troupe: Troupe, findings: Findings, case: tuple[str, str], streams: dict[str, str], began_s: float
) -> None:
    fault, role = case
    await troupe.moved(streams, time.monotonic())
    moved_s = time.time() - began_s
    for actor in (one for one in troupe.actors if one.mac in streams.values() and role in SERVED_BY[one.phase]):
        if actor.phase in POINT_OF[role]:
            again = await troupe.stage.reached(actor.phase, actor.name, count=2)
            findings.seconds[fault, role, actor.phase].append(again.at - began_s)
        elif actor.phase not in ("recognising", "thinking", "synthesising", "speaking"):
            findings.seconds[fault, role, actor.phase].append(moved_s)


def judge(actor: Actor, findings: Findings, fault: str, *, may_be_cut: bool) -> None:
    findings.turns[fault] += 1
    if not actor.complaints():
        return
    if may_be_cut and not actor.complaints(may_be_cut=True):
        findings.cut[fault] += 1
        return
    findings.lost[fault] += 1
    findings.missing_frames[fault] += missing(actor.runs(actor.device.audio, 0))
    print("  ", *actor.complaints(), sep="\n   ")


def missing(runs: Iterable[Run]) -> int:
    """Frames of sounds that broke off."""
    return sum(run.of - run.frames for run in runs)


async def replay(troupe: Troupe, findings: Findings, seconds: int) -> None:
    """An utterance so long is lost with its recogniser, then the button is let go."""
    actor = await troupe.enter("holding")
    packets = (utterance() * (seconds * PACKETS_PER_S // len(utterance()) + 1))[: round(seconds / FRAME_S)]
    troupe.stage.hold("recognising", actor.name)
    actor.device.listen("start", mode="manual")
    for at in range(0, len(packets), PACKETS_PER_S):
        # Faster than anybody speaks, and never so fast that the utterance counts as overload.
        actor.device.send_all(packets[at : at + PACKETS_PER_S])
        await asyncio.sleep(0.25)
    worker = await troupe.placed("asr", actor)
    await asyncio.sleep(1.0)
    name = f"asr-{slot_of(worker)}"
    troupe.cluster.forgiven.add(name)
    began_s = time.time()
    troupe.cluster.processes[name].kill()
    actor.device.listen("stop")
    again = await troupe.stage.reached("recognising", actor.name, timeout_s=60.0)
    findings.replay[seconds].append(again.at - began_s)
    actor.go_on()
    await actor.over()
    await troupe.restart(name)


def table(findings: Findings) -> str:
    lines = ["", "fault     role     phase          n   median   worst  (s to recover)"]
    for (fault, role, phase), seconds in sorted(findings.seconds.items()):
        median, worst = statistics.median(seconds), max(seconds)
        lines.append(f"{fault:<9} {role:<8} {phase:<13} {len(seconds):>3} {median:>8.3f} {worst:>7.3f}")
    lines += ["", "fault     turns   lost   cut by an apology   frames lost"]
    for fault, turns in findings.turns.items():
        lost, cut, frames = findings.lost[fault], findings.cut[fault], findings.missing_frames[fault]
        lines.append(f"{fault:<9} {turns:>5} {lost:>6} {cut:>19} {frames:>13}")
    lines += ["", "utterance (s)   replayed within (s), median and worst"]
    for length, seconds in findings.replay.items():
        lines.append(f"{length:>13} {statistics.median(seconds):>12.3f} {max(seconds):>8.3f}")
    return "\n".join(lines)


async def run(troupe: Troupe, arguments: argparse.Namespace) -> Findings:
    findings = Findings()
    for number in range(arguments.rounds):
        for fault in arguments.faults:
            print(f"round {number + 1}: {fault}", flush=True)
            await lose(troupe, findings, fault, number % len(SLOTS))
            await troupe.leave()
    for seconds in UTTERANCES_S * arguments.replays:
        await replay(troupe, findings, seconds)
        await troupe.leave()
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--replays", type=int, default=2, help="of each length")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    arguments = parser.parse_args()

    async def evening() -> Findings:
        async with performance(cluster, stage) as troupe:
            return await run(troupe, arguments)

    with theatre(patience="") as (cluster, stage):
        findings = asyncio.run(evening())
    print(table(findings))
    return 1 if any(findings.lost.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
