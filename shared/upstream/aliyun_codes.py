"""What the status codes of Alibaba's speech gateway mean, whichever of its services answers. Pure.

Source: help.aliyun.com/document_detail/459864.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.upstream.faults import Code, CodeTable, Kind

SUCCESS: Final = 20000000

GATEWAY: Final[Mapping[str, tuple[str, Kind]]] = MappingProxyType(
    {
        "40000000": (Code.REFUSED, Kind.RETRYABLE),
        "40000001": (Code.AUTH, Kind.FATAL),
        "40000002": (Code.REFUSED, Kind.RETRYABLE),
        "40000003": (Code.REFUSED, Kind.FATAL),
        "40000004": (Code.IDLE_TIMEOUT, Kind.RETRYABLE),
        "40000005": (Code.QUOTA, Kind.QUOTA),
        "40000010": (Code.AUTH, Kind.FATAL),
        "40010001": (Code.REFUSED, Kind.FATAL),
        "40010003": (Code.REFUSED, Kind.RETRYABLE),
        "40010004": (Code.CLOSED, Kind.RETRYABLE),
        "40010005": (Code.REFUSED, Kind.RETRYABLE),
        "40020105": (Code.AUTH, Kind.FATAL),
        "40020106": (Code.AUTH, Kind.FATAL),
        "40020503": (Code.AUTH, Kind.FATAL),
        "41000002": (Code.AUTH, Kind.FATAL),
        "41000003": (Code.AUTH, Kind.FATAL),
        "41010101": (Code.REFUSED, Kind.FATAL),
        "50000000": (Code.FAILED, Kind.RETRYABLE),
        "50000001": (Code.FAILED, Kind.RETRYABLE),
        "52010001": (Code.FAILED, Kind.RETRYABLE),
    }
)
"""40000000, 40000002, 40010003 and 40010005 stand for many things, some of which pass: only their number opens the
breaker. 40000002 is a message that the service's state does not allow, 40000010 an ended trial."""


def gateway_codes(own: Mapping[str, tuple[str, Kind]]) -> CodeTable:
    """The gateway's codes and those that one service has besides."""
    return CodeTable(MappingProxyType({**GATEWAY, **own}))
