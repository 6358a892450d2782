"""Google's `ee` client: who asks, through which door, and what a refusal means.

Its requests go through `wire.Door` like all others, so they are limited, timed, tried again by
class and counted there; the client's own retries are off. It is one per process, as `ee` is.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from las_builder.access import wire
from las_builder.access.limit import Limit
from las_builder.catalogs.earth_engine import EarthEngineService
from las_builder.errors import AccessError, SourceError

if TYPE_CHECKING:
    import requests

NAME: Literal["earth-engine"] = "earth-engine"
TAG = "las-builder"
"""Workload tag of every request, by which the Cloud console tells what a run has used."""

TOKENS = "oauth2.googleapis.com"
LOGIN = (
    "Run `earthengine authenticate`, or `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account."
)
R = TypeVar("R")
_starting = threading.Lock()


def credentials() -> tuple[Any, str]:
    """The user's credentials and project: of a service account's key or another file named in
    GOOGLE_APPLICATION_CREDENTIALS, else of `earthengine authenticate`, else of `gcloud`.

    Raises:
        SourceError: There are none, or no project; says what to run.
    """
    import ee
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.oauth2.credentials import Credentials

    scopes, named = list(ee.oauth.SCOPES), os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    found: Any = None
    project = None
    try:
        if not named and Path(ee.oauth.get_credentials_path()).is_file():
            said = ee.oauth.get_credentials_arguments()
            if said.get("refresh_token"):
                found = Credentials(None, **said)  # type: ignore[no-untyped-call]
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on projects, of which we say our own
                found, project = google.auth.default(scopes=scopes)
    except DefaultCredentialsError as problem:
        if named:
            raise _no_login(f"{named}: {problem}") from None
        raise _no_login(None) from None
    except (GoogleAuthError, OSError, ValueError) as problem:
        raise _no_login(f"{named or 'credentials'}: {problem}") from None
    project = (
        os.environ.get("GOOGLE_CLOUD_PROJECT")
        or getattr(found, "quota_project_id", None)
        or getattr(found, "project_id", None)
        or project
    )
    if not project or ee.oauth.is_sdk_project(str(project)):
        raise SourceError(
            NAME, "project", project, "a Cloud project that is registered for Earth Engine",
            "Run `earthengine set_project PROJECT`, or set GOOGLE_CLOUD_PROJECT.",
        )  # fmt: skip
    return found, str(project)


def _no_login(found: str | None) -> SourceError:
    return SourceError(NAME, "credentials", found, "credentials for Earth Engine", LOGIN)


class Transport:
    """What `ee` takes for httplib2.Http: our door."""

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Any = None,
        redirections: Any = None, connection_type: Any = None,
    ) -> tuple[Any, bytes]:  # fmt: skip
        """Send, by the rules of `wire`.

        Raises:
            AccessError: No answer, or a refusal, after all tries.
        """
        del redirections, connection_type
        import httplib2

        try:
            answer = wire.session().request(method, uri, data=body, headers=dict(headers or {}))
        except wire.Failure as failure:
            raise failure.error from None
        said = {key.lower(): value for key, value in answer.headers.items()}
        return httplib2.Response({**said, "status": str(answer.status_code)}), answer.content


def start(service: EarthEngineService) -> str:
    """Get the client ready, once in a process; the project that pays.

    Raises:
        SourceError: No credentials, no project, or a refusal that ends a run.
        AccessError: The service does not answer.
    """
    with _starting:
        _know(service)
        try:
            return _start(service.endpoint, os.getpid())
        except AccessError as problem:
            raise _final(service, problem) from None


def _know(service: EarthEngineService) -> None:
    limit = Limit(service.per_second, service.in_flight)
    host = urlsplit(service.endpoint).netloc
    wire.know(
        (
            wire.Host(host, limit, judge=_judge(service), read_s=service.read_s),
            wire.Host(TOKENS, Limit(10, 4), judge=_judge_token),
        )
    )


@functools.lru_cache(maxsize=1)
def _start(endpoint: str, pid: int) -> str:  # noqa: ARG001  # sockets do not survive a fork
    import ee

    who, project = credentials()
    before = socket.getdefaulttimeout()
    try:
        with warnings.catch_warnings():
            # `Initialize` also asks for a list of outdated assets, without a time-out of its own.
            warnings.simplefilter("ignore")
            socket.setdefaulttimeout(5.0)
            ee.data.setMaxRetries(0)
            ee.data.setDefaultWorkloadTag(TAG)
            in_our_words(
                lambda: ee.Initialize(
                    who, project=project, url=endpoint, http_transport=Transport()
                ),
                endpoint,
            )
    finally:
        socket.setdefaulttimeout(before)
    return project


def ask(service: EarthEngineService, what: str, job: Callable[[], R]) -> R:
    """What the client answers.

    Args:
        service: Declared.
        what: Is asked for, for messages.
        job: Asks, by functions of `ee.data`.

    Raises:
        SourceError: No credentials, or a refusal against which nothing helps: it ends a run.
        AccessError: It failed.
    """
    start(service)
    try:
        return in_our_words(job, what)
    except AccessError as problem:
        raise _final(service, problem) from None


def _final(service: EarthEngineService, problem: AccessError) -> AccessError | SourceError:
    """A failure, or what ends a run; says what to do."""
    if problem.kind == "unauthenticated":
        return _no_login(problem.problem)
    for rule in service.errors.rules:
        if rule.kind == problem.kind and rule.then == "stop":
            return SourceError(NAME, rule.kind, problem.problem, rule.wants, rule.say)
    return problem


def go_on() -> None:
    """Take the credentials anew."""
    _start.cache_clear()


def splits(service: EarthEngineService, problem: AccessError) -> bool:
    """Whether less at once may be answered."""
    return any(r.kind == problem.kind and r.then == "split" for r in service.errors.rules)


def in_our_words(job: Callable[[], R], what: str) -> R:
    """What a job of the client's gives; its exceptions as errors of ours."""
    import ee
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import Error

    try:
        return job()
    except AccessError as problem:
        host = urlsplit(problem.what).netloc
        raise AccessError(
            NAME, what if host != TOKENS else "credentials", problem.problem,
            retryable=problem.retryable, kind=problem.kind, attempts=problem.attempts,
        ) from None  # fmt: skip
    except GoogleAuthError as problem:
        raise AccessError(NAME, what, str(problem), kind="unauthenticated") from None
    except (ee.EEException, Error, ValueError) as problem:
        text = f"{type(problem).__name__}: {problem}"
        raise AccessError(NAME, what, text, kind="not-data", retryable=True) from None


# ---- what refusals mean


def _message(answer: requests.Response) -> str:
    """The service's own words."""
    try:
        said = json.loads(answer.content)
        error = said["error"]
        return str(error["message"] if isinstance(error, dict) else said["error_description"])
    except (ValueError, LookupError, TypeError):
        return " ".join(answer.content[:600].decode("utf-8", "replace").split())[:300]


def _judge(service: EarthEngineService) -> wire.Judge:
    def judge(answer: requests.Response) -> tuple[str, str, bool] | None:
        if answer.status_code < 400:
            return None
        message = _message(answer)
        rule = service.errors.rule(answer.status_code, message)
        if rule is None:
            return None
        say = "" if rule.then == "stop" else rule.say
        return (
            rule.kind,
            f"HTTP {answer.status_code}: {message} {say}".strip(),
            rule.then == "retry",
        )

    return judge


def _judge_token(answer: requests.Response) -> tuple[str, str, bool] | None:
    if answer.status_code not in (400, 401, 403):
        return None
    return "unauthenticated", f"HTTP {answer.status_code}: {_message(answer)}", False
