"""Which server a configured model means, and what is asked of it besides the messages.

Pure: an engine choice in, an endpoint out. Types `ollama`, `xinference` and `gemini` are the OpenAI-compatible
interfaces of those servers. Reasoning is switched off where the provider has a switch, because nobody waits for it
in a conversation; each domain has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from shared.errors import ConfigError
from shared.settings import EngineChoice

_DEFAULT_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "ollama": "http://localhost:11434/v1",
    "xinference": "http://localhost:9997/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai/",
}
TYPES: Final = frozenset(_DEFAULT_URLS)
_SERVES_V1: Final = frozenset({"ollama", "xinference"})
_DISABLED: Final = {"thinking": {"type": "disabled"}}
_NO_REASONING: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("aliyuncs.com", {"enable_thinking": False}),
    ("deepseek.com", _DISABLED),
    ("bigmodel.cn", _DISABLED),
    ("moonshot.cn", _DISABLED),
    ("volces.com", _DISABLED),
)
_CONNECT_TIMEOUT_S: Final = 3.0
_READ_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    api_key: str
    model: str
    parameters: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters, only those that are configured."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    connect_timeout_s: float = _CONNECT_TIMEOUT_S
    read_timeout_s: float = _READ_TIMEOUT_S

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, model={self.model!r})"

    @property
    def is_named(self) -> bool:
        """Must its host's name be resolved?"""
        host = urlsplit(self.base_url).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            return True
        return False


def endpoint_of(choice: EngineChoice) -> Endpoint:
    """Raises ConfigError naming the option that cannot be used."""
    options = choice.options
    base_url = _base_url(choice)
    model = options.get("model_name")
    if not isinstance(model, str) or not model:
        raise ConfigError(f"LLM.{choice.name}.model_name", model, "the name of a model")
    return Endpoint(
        base_url=base_url,
        api_key=str(options.get("api_key") or "none"),
        model=model,
        parameters=_parameters(choice),
        extra_body=_extra_body(base_url),
        read_timeout_s=_read_timeout_s(choice),
    )


def _base_url(choice: EngineChoice) -> str:
    url = choice.options.get("base_url") or choice.options.get("url") or _DEFAULT_URLS[choice.type]
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError(f"LLM.{choice.name}.base_url", url, "an http:// or https:// address")
    url = url.rstrip("/")
    if choice.type in _SERVES_V1 and not url.endswith("/v1"):
        url += "/v1"
    return url


def _parameters(choice: EngineChoice) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, number in (("max_tokens", int), ("temperature", float), ("top_p", float), ("frequency_penalty", float)):
        value = choice.options.get(name)
        if value is None or value == "":
            continue
        try:
            parameters[name] = number(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"LLM.{choice.name}.{name}", value, "a number") from error
    return parameters


def _extra_body(base_url: str) -> dict[str, Any]:
    host = urlsplit(base_url).hostname or ""
    for domain, body in _NO_REASONING:
        if host == domain or host.endswith(f".{domain}"):
            return dict(body)
    return {}


def _read_timeout_s(choice: EngineChoice) -> float:
    value = choice.options.get("timeout")
    if isinstance(value, dict):
        value = value.get("read")
    if value is None or value == "":
        return _READ_TIMEOUT_S
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"LLM.{choice.name}.timeout", value, "seconds") from error
