"""What a request needs besides its URL: tokens of the Planetary Computer, signatures of AWS."""

from __future__ import annotations

import configparser
import functools
import hashlib
import hmac
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from las_builder.access import wire
from las_builder.errors import AccessError

RENEW_S = 120.0
"""A token with less than this to live is not used: no read takes longer."""

_tokens: dict[str, tuple[float, str]] = {}
_asking = threading.Lock()


def planetary(method: str, url: str, anew: bool) -> tuple[str, Mapping[str, str]]:
    """A blob's URL with a token of its container, asked for just before it is needed.

    Endpoint and subscription key are those of the `planetary-computer` package (PC_SDK_SAS_URL,
    PC_SDK_SUBSCRIPTION_KEY).

    Args:
        method: Any: a token is good for all.
        url: Unsigned.
        anew: The last token was refused.

    Raises:
        AccessError: No token is given.
    """
    del method
    token_of, settings = _sdk()
    parts = urlsplit(url)
    place = f"{settings.sas_url}/{parts.netloc.split('.')[0]}/{parts.path.split('/')[1]}"
    now = datetime.now(UTC).timestamp()
    with _asking:  # one thread asks, the others of the process wait for its token
        dies, token = _tokens.get(place, (0.0, ""))
        if dies - now < RENEW_S or (anew and _refused.get(place) != token):
            _refused[place] = token
            key = settings.subscription_key
            answer = wire.get(place, headers={"Ocp-Apim-Subscription-Key": key} if key else {})
            try:
                said = token_of(**answer.json())
            except (ValueError, TypeError) as problem:
                raise AccessError(
                    parts.netloc, place, f"no token in {answer.text[:80]!r}", kind="refused"
                ) from problem
            dies, token = said.expiry.timestamp(), said.token
            _tokens[place] = dies, token
    return f"{url}{'&' if parts.query else '?'}{token}", {}


@functools.cache
def _sdk() -> tuple[Any, Any]:
    """The class of tokens, and the user's settings; the package is behind pydantic's times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from planetary_computer.sas import SASToken
        from planetary_computer.settings import Settings

    return SASToken, Settings.get()


_refused: dict[str, str] = {}
"""Container to the token that was replaced last, so that threads refused together renew once."""


@dataclass(frozen=True, slots=True)
class AwsKey:
    """An access key."""

    id: str
    secret: str
    token: str | None


def aws_key() -> AwsKey | None:
    """The user's access key: of the environment, else of ~/.aws/credentials; None: there is none."""
    env = os.environ
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        token = env.get("AWS_SESSION_TOKEN")
        return AwsKey(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], token)
    default = Path("~/.aws/credentials").expanduser()
    path = Path(env.get("AWS_SHARED_CREDENTIALS_FILE", default))
    said = configparser.ConfigParser()
    try:
        said.read(path)
    except (OSError, configparser.Error):
        return None
    profile = env.get("AWS_PROFILE", "default")
    if not said.has_option(profile, "aws_access_key_id"):
        return None
    section = said[profile]
    return AwsKey(
        section["aws_access_key_id"],
        section.get("aws_secret_access_key", ""),
        section.get("aws_session_token"),
    )


def requester_pays(method: str, url: str, anew: bool) -> tuple[str, Mapping[str, str]]:
    """Headers of a request whose costs the reader bears, in AWS Signature Version 4.

    Raises:
        AccessError: There is no access key.
    """
    del anew
    key = aws_key()
    if key is None:
        host = urlsplit(url).netloc
        raise AccessError(
            host, url, "the reader pays, and there is no AWS access key", kind="refused"
        )
    return url, signature(method, url, key, datetime.now(UTC))


NO_BODY = hashlib.sha256(b"").hexdigest()


def signature(method: str, url: str, key: AwsKey, now: datetime) -> dict[str, str]:
    """The headers of a signed request with x-amz-request-payer, for virtual-hosted S3 URLs.

    Args:
        method: GET or HEAD.
        url: https://BUCKET.s3.REGION.amazonaws.com/KEY
        key: Who pays.
        now: UTC.
    """
    parts = urlsplit(url)
    region = parts.netloc.split(".s3.")[1].split(".")[0]
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "host": parts.netloc,
        "x-amz-content-sha256": NO_BODY,
        "x-amz-date": stamp,
        "x-amz-request-payer": "requester",
        **({"x-amz-security-token": key.token} if key.token else {}),
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    path = quote(parts.path, safe="/~-._%")
    request = "\n".join([method, path, parts.query, lines, names, NO_BODY])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(
        ["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()]
    )
    secret = f"AWS4{key.secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    signed = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    said = (
        f"AWS4-HMAC-SHA256 Credential={key.id}/{scope}, SignedHeaders={names}, Signature={signed}"
    )
    return {**{k: v for k, v in headers.items() if k != "host"}, "Authorization": said}
