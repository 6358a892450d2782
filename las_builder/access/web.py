"""A file over HTTP, and what its failures are called."""

from __future__ import annotations

import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from las_builder.errors import AccessError, LasError, StacError

TIMEOUT_S = 30.0
"""Of one request, seconds."""


def is_url(href: str) -> bool:
    """Whether a place is on the web rather than on disk."""
    return href.startswith(("http://", "https://"))


def local_path(href: str) -> Path:
    """The path of a href that is on disk (a path, or a file: URL)."""
    return Path(unquote(urlsplit(href).path)) if href.startswith("file:") else Path(href)


def failure(href: str, key: str, status: int) -> LasError:
    """What an HTTP status means to us: an absence is the catalogue's fault, the rest the server's."""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return StacError(href, key, f"HTTP {status}", "a file that the server has")
    retryable = status >= 500 or status in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    )
    return AccessError(urlsplit(href).netloc, href, f"HTTP {status}", retryable=retryable)


def get(href: str, *, key: str = "href", first: int | None = None) -> bytes:
    """The content of a URL, or only its `first` bytes.

    Raises:
        StacError: The server does not have it.
        AccessError: The server failed, refused, or did not answer in time.
    """
    request = urllib.request.Request(href)  # noqa: S310  # callers ask `is_url` first
    if first is not None:
        request.add_header("Range", f"bytes=0-{first - 1}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return bytes(answer.read() if first is None else answer.read(first))
    except urllib.error.HTTPError as problem:
        with problem:
            raise failure(href, key, problem.code) from None
    except (OSError, HTTPException) as problem:  # URLError and timeouts are OSErrors
        reason = getattr(problem, "reason", None) or problem
        text = f"{type(problem).__name__}: {reason}"
        raise AccessError(urlsplit(href).netloc, href, text, retryable=True) from None
