"""A fleet's report as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_TIMES = {
    "stop_to_first_audio_ms": "stop → first audio, ms",
    "first_audio_minus_stages_ms": "… minus the engines' own time, ms",
    "stt_ms": "stop → transcript, ms",
    "abort_to_tts_stop_ms": "abort → tts stop, ms",
}

_COUNTS = {
    "turns": "turns",
    "aborted": "aborted",
    "let_go": "let go between turns",
    "late_percent": "late frames, %",
    "frames": "frames",
    "late_frames": "late",
    "underruns": "underruns",
    "pauses": "pauses",
    "overflow_frames": "lost, queue full",
    "early_frames": "lost, not ready",
    "stale_frames": "stale",
    "heard_s": "heard, s",
}


def show(report: dict[str, Any], console: Console | None = None) -> None:
    out = console or Console(highlight=False)
    modes = ", ".join(report["modes"])
    out.print(
        f"{report['devices']} devices ({modes}), {report['seconds']:g} s, {report['connected_at_end']} at the end"
    )
    out.print(_times(report))
    out.print(_counts(report))
    for name, found in (("failures", report["failures"]), ("unreadable for a device", report["device_faults"])):
        out.print(f"{name}: " + (", ".join(f"{count} {code}" for code, count in found.items()) or "none"))
    for code, text in report["failure_examples"].items():
        out.print(f"  {code}: {text}", markup=False)
    out.print(f"the fleet itself: {report['fleet']['cpu_s_per_device_minute']} CPU s per device-minute")
    _show_server(report["server"], out)


def _times(report: dict[str, Any]) -> Table:
    table = Table("", "p50", "p95", "p99", "max", box=None, pad_edge=False)
    rows = {words: report[key] for key, words in _TIMES.items()}
    rows["lag of the fleet's own loop, ms"] = report["fleet"]["loop_lag_ms"]
    for words, ranks in rows.items():
        if ranks["max"] is not None:
            table.add_row(words, *(f"{ranks[name]:.1f}" for name in ("p50", "p95", "p99", "max")))
    return table


def _counts(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, words in _COUNTS.items():
        table.add_row(words, str(report[key]))
    return table


def _show_server(server: dict[str, Any], out: Console) -> None:
    if not server["processes"]:
        return
    out.print(f"server: {server['cpu_s_per_device_minute']} CPU s per device-minute, {server['memory_kib']} KiB")
    table = Table("process", "pid", "CPU s", "KiB", "grown", "threads", box=None, pad_edge=False)
    for row in server["processes"]:
        threads = f"{row['threads_before']} → {row['threads_after']}"
        table.add_row(
            row["name"],
            str(row["pid"]),
            f"{row['cpu_s']:.2f}",
            str(row["memory_kib"]),
            str(row["memory_growth_kib"]),
            threads,
        )
    out.print(table)
    if server["died"]:
        out.print("died: " + ", ".join(server["died"]))
