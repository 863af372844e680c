"""The access token of Alibaba's speech service: asked for with a signed request, and renewed before it expires.

The signature is that of Alibaba's RPC interface (help.aliyun.com/document_detail/113251.html): parameters sorted and
percent-encoded, HMAC-SHA1 keyed with the secret and "&". The request's address holds the key id, so that no address is
ever logged or part of an error.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from shared.upstream.faults import Code, CodeTable, Kind, UpstreamError
from shared.upstream.http import proxy_of
from shared.upstream.tls import trust
from shared.upstream.token import RenewedToken, Token

TOKEN_URL: Final = "https://nls-meta.cn-shanghai.aliyuncs.com/"
REGION: Final = "cn-shanghai"
TIMEOUT_S: Final = 5.0

CODES = CodeTable(
    MappingProxyType(
        {
            "InvalidAccessKeyId.NotFound": (Code.AUTH, Kind.FATAL),
            "InvalidAccessKeyId.Inactive": (Code.AUTH, Kind.FATAL),
            "SignatureDoesNotMatch": (Code.AUTH, Kind.FATAL),
            "IncompleteSignature": (Code.AUTH, Kind.FATAL),
            "Forbidden.RAM": (Code.AUTH, Kind.FATAL),
            "NoPermission": (Code.AUTH, Kind.FATAL),
            "InvalidTimeStamp.Expired": (Code.REFUSED, Kind.FATAL),
            "SignatureNonceUsed": (Code.FAILED, Kind.RETRYABLE),
            "Throttling": (Code.QUOTA, Kind.QUOTA),
            "Throttling.User": (Code.QUOTA, Kind.QUOTA),
            "ServiceUnavailable": (Code.FAILED, Kind.RETRYABLE),
            "InternalError": (Code.FAILED, Kind.RETRYABLE),
        }
    )
)
"""A time stamp counts as expired when this machine's clock is wrong by 15 minutes: somebody must mend it."""


class TokenSource(Protocol):
    async def value(self) -> str:
        """The valid token. Raises UpstreamError."""

    def reject(self, value: str) -> None:
        """The service did not take it."""

    async def close(self) -> None: ...


class FixedToken:
    """The one that the configuration gives."""

    def __init__(self, value: str) -> None:
        self._value = value

    async def value(self) -> str:
        return self._value

    def reject(self, value: str) -> None:
        """There is no other."""

    async def close(self) -> None:
        """Nothing is kept."""


def token_source(token: str | None, access_key_id: str, secret: str, *, url: str = TOKEN_URL, name: str) -> TokenSource:
    """Keys win over a fixed token, which lasts a day at most; `name` is the upstream's."""
    if access_key_id and secret:
        return RenewedToken(lambda: fetch_token(access_key_id, secret, url=url), name=name)
    return FixedToken(token or "")


def signed_query(access_key_id: str, secret: str, nonce: str, timestamp: str) -> str:
    """The query of a CreateToken request; `nonce` is a UUID, `timestamp` is UTC, as 2024-08-07T03:06:40Z."""
    query = "&".join(f"{_encoded(k)}={_encoded(v)}" for k, v in sorted(_parameters(access_key_id, nonce, timestamp)))
    signed = f"GET&{_encoded('/')}&{_encoded(query)}"
    digest = hmac.new(f"{secret}&".encode(), signed.encode(), hashlib.sha1).digest()
    return f"Signature={_encoded(base64.b64encode(digest).decode())}&{query}"


def token_of(answer: Any) -> Token:
    """The token in a CreateToken answer. Raises UpstreamError."""
    token = answer.get("Token") if isinstance(answer, Mapping) else None
    match token:
        case {"Id": str(value), "ExpireTime": int(expires_at)} if value:
            return Token(value, float(expires_at))
    raise UpstreamError("no token in the answer", code=Code.MALFORMED)


async def fetch_token(access_key_id: str, secret: str, *, url: str = TOKEN_URL, timeout_s: float = TIMEOUT_S) -> Token:
    """Raises UpstreamError."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    query = signed_query(access_key_id, secret, str(uuid.uuid4()), stamp)
    try:
        async with asyncio.timeout(timeout_s):
            status, answer = await _get(URL(f"{url}?{query}", encoded=True))
    except TimeoutError:
        raise UpstreamError("no token in time", code=Code.FIRST_TIMEOUT) from None
    except aiohttp.ClientConnectorCertificateError:
        raise UpstreamError("the certificate is not to be trusted", code=Code.CONNECT, kind=Kind.FATAL) from None
    except aiohttp.ClientError:
        raise UpstreamError("the token service cannot be reached", code=Code.CONNECT) from None
    except ValueError:
        raise UpstreamError("the token service's answer is no JSON", code=Code.MALFORMED) from None
    if status != 200:
        reason = answer.get("Code") if isinstance(answer, Mapping) else None
        raise CODES.error(reason, "the token was refused")
    return token_of(answer)


async def _get(url: URL) -> tuple[int, Any]:
    connector = aiohttp.TCPConnector(ssl=trust())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, allow_redirects=False, proxy=proxy_of(str(url))) as response,
    ):
        return response.status, await response.json(content_type=None)


def _parameters(access_key_id: str, nonce: str, timestamp: str) -> list[tuple[str, str]]:
    return [
        ("AccessKeyId", access_key_id),
        ("Action", "CreateToken"),
        ("Format", "JSON"),
        ("RegionId", REGION),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", nonce),
        ("SignatureVersion", "1.0"),
        ("Timestamp", timestamp),
        ("Version", "2019-02-28"),
    ]


def _encoded(text: str) -> str:
    return quote(text, safe="~")
