"""Hrefs on disk and on the web, and the content of those on the web."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from las_builder.errors import AccessError, LasError, StacError


def is_url(href: str) -> bool:
    """Whether a place is on the web rather than on disk."""
    return href.startswith(("http://", "https://"))


def local_path(href: str) -> Path:
    """The path of a href that is on disk (a path, or a file: URL)."""
    return Path(unquote(urlsplit(href).path)) if href.startswith("file:") else Path(href)


def get(href: str, *, key: str = "href") -> bytes:
    """The content of a URL.

    Raises:
        StacError: The server does not have it.
        AccessError: The server failed, refused, or did not answer in time.
    """
    from las_builder.access import wire

    try:
        return bytes(wire.get(href).content)
    except AccessError as problem:
        raise absent(problem, key) from None


def absent(problem: AccessError, key: str = "href") -> LasError:
    """An absence is the fault of the catalogue that names the file, the rest the server's."""
    if problem.kind != "absent":
        return problem
    return StacError(problem.what, key, problem.problem, "a file that the server has")
