"""`xiaozhi talk`: a simulated device holds a conversation with a server and shows every stage as it happens.

Where to: `--ota` answers with the address and the token, as for a real device. With `--url` alone the OTA address of
that host is tried for a token, and without one the device connects all the same. With neither, the local cluster.
Exit code 0: every turn was answered with sound. 1: the server is not there, refuses, or does not answer. 2: bad input.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import aiohttp

from ops.device.client import Device, DeviceOptions
from ops.device.enrolment import DeviceError, Enrolment, Identity, enrol, simulated_mac
from ops.device.opus import SPEAKER_RATE, Speech, decode, encode_speech, silence
from ops.device.speech import SpeechError, Voice, read_wav, write_wav
from ops.device.talk_view import JsonView, TalkView, View
from ops.device.turn import TurnReport
from ops.local import ota_url
from shared.errors import ConfigError, XiaozhiError
from shared.listening import Mode

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

DEFAULT_QUESTIONS = ("hello there", "what time is it")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say: `speech` for the microphone, or None to send `words` as typed text."""

    words: str
    speech: Speech | None


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "talk", help="talk to a server as a device does", description="Talk to a xiaozhi server as a device does."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("file", nargs="?", type=Path, metavar="FILE.wav", help="say what this recording says")
    what.add_argument("--say", metavar="TEXT", help="speak this text with the project's own voices")
    what.add_argument("--text", metavar="TEXT", help="send this as typed text, without sound")
    parser.add_argument(
        "--language", metavar="TAG", help="language of --say, such as en or zh (default: by its script)"
    )
    parser.add_argument("--mode", choices=get_args(Mode), default="auto", help="who ends an utterance (default: auto)")
    parser.add_argument("--turns", type=_count, default=1, metavar="N", help="say it N times (default: 1)")
    parser.add_argument(
        "--abort-after", type=_seconds, metavar="S", help="interrupt each reply S seconds after its first sound"
    )
    parser.add_argument("--url", help="WebSocket address (default: the OTA answer's)")
    parser.add_argument("--ota", metavar="URL", help="OTA address (default: of the local cluster)")
    parser.add_argument("--device", metavar="ID", help="device id (default: a made-up MAC address of this machine)")
    parser.add_argument("--protocol", type=int, choices=(1, 2, 3), default=1, help="binary framing (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.wav", help="write what was heard (24 kHz)")
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="wait so long for a server's next word"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a turn and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    view: View = JsonView() if args.json else TalkView()
    try:
        with view:
            return asyncio.run(talk(args, view))
    except (SpeechError, ConfigError) as error:
        print(f"xiaozhi talk: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except XiaozhiError as error:
        print(f"xiaozhi talk: {error}", file=sys.stderr)
        return EXIT_FAILED


async def talk(args: argparse.Namespace, view: View) -> int:
    """All turns over one connection."""
    view.waiting("preparing what to say")
    lines = prepare(args)
    identity = Identity(args.device or simulated_mac(f"{getpass.getuser()}@{platform.node()}"))
    view.waiting("asking where to connect")
    place = await find(args.url, args.ota, identity)
    options = DeviceOptions(
        identity,
        args.mode,
        protocol=args.protocol,
        keep_audio=args.out is not None,
        answer_timeout_s=args.timeout,
    )
    view.waiting(f"connecting to {place.url}")
    async with Device(options, silence(), observer=view.on_news) as device:
        try:
            await device.open(place.url, place.token)
            view.connected(place.url, identity.device)
            return await _take_turns(device, lines * args.turns, args.abort_after, view)
        finally:
            if args.out is not None:
                write_wav(args.out, decode(device.played, device.firmware.speaker.frame_s), SPEAKER_RATE)


async def _take_turns(device: Device, lines: list[Line], abort_after_s: float | None, view: View) -> int:
    reports: list[TurnReport] = []
    for line in lines:
        view.turn(line.words, line.speech.duration_s if line.speech else 0.0)
        if line.speech is None:
            report = await device.ask_text(line.words, abort_after_s=abort_after_s)
        else:
            report = await device.ask(line.speech, abort_after_s=abort_after_s)
        view.report(report)
        reports.append(report)
    for code, count in device.faults.items():
        view.warning(f"the server sent {count} × something that a device cannot read: {code}")
    if all(report.first_audio_ms is not None for report in reports):
        return 0
    view.warning("a reply came without any sound")
    return EXIT_FAILED


def prepare(args: argparse.Namespace) -> list[Line]:
    """What is to be said, encoded before the clock runs."""
    if args.text is not None:
        return [Line(args.text, None)]
    if args.file is not None:
        return [Line(args.file.name, encode_speech(read_wav(args.file)))]
    voice = Voice()
    texts = DEFAULT_QUESTIONS if args.say is None else (args.say,)
    return [Line(text, encode_speech(voice.say(text, args.language))) for text in texts]


async def find(url: str | None, ota: str | None, identity: Identity) -> Enrolment:
    """Address and token of the server to talk to."""
    async with aiohttp.ClientSession() as http:
        if ota is not None:
            place = await enrol(http, ota, identity)
            return Enrolment(url or place.url, place.token)
        if url is not None:
            return await _with_token(http, url, identity)
        return await _local(http, identity)


async def _with_token(http: aiohttp.ClientSession, url: str, identity: Identity) -> Enrolment:
    """A server without auth, or another port for OTA, must not keep a device from trying."""
    host = urlsplit(url).hostname
    try:
        place = await enrol(http, ota_url(host or ""), identity, timeout_s=3.0)
    except DeviceError:
        return Enrolment(url)
    return Enrolment(url, place.token)


async def _local(http: aiohttp.ClientSession, identity: Identity) -> Enrolment:
    try:
        return await enrol(http, ota_url(), identity)
    except DeviceError as error:
        if error.code != "ota_unreachable":
            raise
        raise DeviceError(f"{error}. Is the cluster running? Start it with: xiaozhi up", code=error.code) from error


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds up to 3600")
    return value
