"""Every address outside that the settings name, and whether it could be reached. Pure.

Of an address only scheme, host and port are kept: paths, queries and user names may be secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ops.doctor.finding import Finding, fail, ok, warn
from shared.config.options.base import is_placeholder
from shared.config.options.table import OPTIONS
from shared.settings import EngineChoice, Settings, chain_of

CHECK = "upstream"
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "tcp": 1883, "ssl": 8883}
TLS = frozenset({"https", "wss", "mqtts", "ssl"})


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address, and the key that names it."""

    key: str
    scheme: str
    host: str
    port: int

    @property
    def has_tls(self) -> bool:
        return self.scheme in TLS

    @property
    def speaks_http(self) -> bool:
        return self.scheme in ("http", "https", "ws", "wss")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a connection came."""

    upstream: Upstream
    fault: str = ""
    """"": it was reached. Else: resolve, refused, timeout, unreachable, certificate, tls."""
    detail: str = ""
    skew_s: float | None = None


REMEDIES = {
    "resolve": "check the name, and this machine's DNS (in a container: --dns)",
    "refused": "is it running, and does it listen on that port? In a container, localhost is the container itself",
    "timeout": "a firewall may drop it, or a proxy be needed (HTTPS_PROXY)",
    "unreachable": "check this machine's network and routes",
    "certificate": "renew it or trust its issuer (SSL_CERT_FILE); a wrong clock has the same effect",
    "tls": "does that port speak TLS? Otherwise write http:// or ws://",
}
_WORDS = {
    "resolve": "its name is not known",
    "refused": "nothing listens there",
    "timeout": "no answer within the deadline",
    "unreachable": "there is no way to it",
    "certificate": "its certificate is not valid",
    "tls": "it does not speak TLS as it should",
}


def upstreams_of(settings: Settings) -> list[Upstream]:
    """Of the engines in use, and of what devices are sent to beside the router. Each address once."""
    found = [
        *_of_engine("LLM", settings.session.llm),
        *(each for engine in chain_of(settings.asr) for each in _of_engine("ASR", engine)),
        *(each for engine in chain_of(settings.tts) for each in _of_engine("TTS", engine)),
    ]
    if settings.voiceprint.known:
        found += parsed("voiceprint.url", settings.voiceprint.url)
    if settings.web.mqtt_gateway:
        found += parsed("server.mqtt_gateway", _with_scheme(settings.web.mqtt_gateway, "mqtt"))
    if settings.session.vision_url:
        found += parsed("server.vision_explain", settings.session.vision_url)
    return list({(each.host, each.port): each for each in reversed(found)}.values())[::-1]


def _of_engine(kind: str, engine: EngineChoice | None) -> Iterator[Upstream]:
    if engine is None:
        return
    model = OPTIONS.get((kind, engine.type))
    if model is not None:
        for address in model.of(engine).addresses:
            yield from parsed(f"{kind}.{engine.name}", address)
        return
    for name, value in _strings(engine.options):
        if not is_placeholder(value):
            yield from parsed(f"{kind}.{engine.name}.{name}", value)


def _strings(options: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, str):
            yield f"{path}{name}", value
        elif isinstance(value, dict):
            yield from _strings(value, f"{path}{name}.")


def _with_scheme(text: str, scheme: str) -> str:
    return text if "://" in text else f"{scheme}://{text}"


def parsed(key: str, text: str) -> list[Upstream]:
    """Nothing for a text that is no address."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return []
    if parts.scheme not in PORTS or not parts.hostname or port is None:
        return []
    return [Upstream(key, parts.scheme, parts.hostname, port)]


def words(reach: Reach) -> str:
    """Why it was not reached; "" if it was."""
    return f"{_WORDS[reach.fault]}{f' ({reach.detail})' if reach.detail else ''}" if reach.fault else ""


def judge_upstreams(reaches: Iterable[Reach]) -> Iterator[Finding]:
    found = False
    for reach in reaches:
        found = True
        where = f"{reach.upstream} ({reach.upstream.key})"
        if not reach.fault:
            yield ok(CHECK, f"{where} is reached")
            continue
        judge = warn if reach.fault == "timeout" else fail
        yield judge(CHECK, f"{where}: {words(reach)}", REMEDIES[reach.fault])
    if not found:
        yield ok(CHECK, "none is configured: everything runs on this machine")
