"""Which engine types have a model of their keys. A type that is not here takes any options and checks them itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from shared.config.options.aliyun import AliyunAsrOptions, AliyunTtsOptions
from shared.config.options.base import Options
from shared.config.options.edge import EdgeTtsOptions
from shared.config.options.fun import FunServerAsrOptions
from shared.config.options.openai import OpenAiAsrOptions, OpenAiTtsOptions
from shared.config.options.piper import PiperTtsOptions
from shared.config.options.sherpa import SherpaAsrOptions, SherpaTtsOptions
from shared.config.options.volcengine import DoubaoAsrOptions, HuoshanTtsOptions
from shared.config.options.whisper import WhisperAsrOptions

OPTIONS: Mapping[tuple[str, str], type[Options]] = MappingProxyType(
    {
        ("ASR", "aliyun_stream"): AliyunAsrOptions,
        ("ASR", "doubao_stream"): DoubaoAsrOptions,
        ("ASR", "fun_local"): SherpaAsrOptions,
        ("ASR", "fun_server"): FunServerAsrOptions,
        ("ASR", "openai"): OpenAiAsrOptions,
        ("ASR", "sherpa"): SherpaAsrOptions,
        ("ASR", "sherpa_onnx_local"): SherpaAsrOptions,
        ("ASR", "whisper"): WhisperAsrOptions,
        ("TTS", "edge"): EdgeTtsOptions,
        ("TTS", "openai"): OpenAiTtsOptions,
        ("TTS", "aliyun_stream"): AliyunTtsOptions,
        ("TTS", "huoshan_double_stream"): HuoshanTtsOptions,
        ("TTS", "piper"): PiperTtsOptions,
        ("TTS", "sherpa"): SherpaTtsOptions,
    }
)
"""(kind, type) → model, such as ("ASR", "doubao_stream")."""


def leads_outside(kind: str, type_name: str) -> bool:
    """Whether engines of a type ask a service outside."""
    model = OPTIONS.get((kind, type_name))
    return model is not None and model.is_outside
