"""`las doctor`: what a run will find here; with a provider, what that says today."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from las_builder import __version__
from las_builder.access.probe import MOST_REQUESTS, probe, reader
from las_builder.access.signing import aws_key
from las_builder.catalogs import Catalogs
from las_builder.errors import UnknownNameError

PACKAGES = (
    "numpy", "rasterio", "pystac-client", "planetary-computer", "requests", "zarr", "distributed",
    "pyproj", "shapely", "pyarrow", "earthengine-api", "torch",
)  # fmt: skip
EARTH_ENGINE_FILES = (
    Path("~/.config/earthengine/credentials"),
    Path("~/.config/gcloud/application_default_credentials.json"),
)
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS", "USERPWD", "HEADERS", "COOKIE", "BEARER")  # fmt: skip
"""In names of settings whose values are not shown; of others, what stands before an @ or behind
a ?, where signatures are."""

NAMES = ("LAS_", "PC_SDK_", "AWS_", "GDAL_", "CPL_", "EARTHENGINE", "GOOGLE_APPLICATION", "HTTP_PROXY", "HTTPS_PROXY")  # fmt: skip


def doctor(work: Path, catalogs: Catalogs) -> str:
    """Versions, disk, credentials and settings; nothing is asked of anybody."""
    gdal, jpeg2000 = reader()
    folder = next(p for p in (work, *work.resolve().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    lines = [
        f"las_builder {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"cores: {os.cpu_count()}; free at {work}: {free / 1e9:.1f} GB"
        + ("" if free > 20e9 else " (a corpus of 30,000 Sentinel-2 patches needs hundreds)"),
        "packages: " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        f"GDAL {gdal}, JPEG 2000: {'yes' if jpeg2000 else 'no: such assets cannot be read'}",
    ]
    earth_engine = (
        any(path.expanduser().is_file() for path in EARTH_ENGINE_FILES)
        or Path(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "-")).is_file()
    )
    lines += [
        f"AWS access key (what readers pay for): {_there(aws_key() is not None)}",
        f"Planetary Computer key (higher limits): {_there('PC_SDK_SUBSCRIPTION_KEY' in os.environ)}",
        f"Earth Engine credentials: {_there(earth_engine)}",
    ]
    said = {k: v for k, v in sorted(os.environ.items()) if k.upper().startswith(NAMES)}
    lines += [f"{k}: {_shown(k, v)}" for k, v in said.items()]
    for name in catalogs.names("providers"):
        provider = catalogs.provider(name)
        seen = (
            "checked live"
            if provider.verified
            else "never run live: `las doctor --live` says what differs"
        )
        lines.append(f"{name}: {provider.api}; {seen}")
    lines.append(
        f"earth-engine: {catalogs.earth_engine.endpoint}; never run live: `las doctor --live "
        "earth-engine` says what differs"
    )
    return "\n".join(lines)


def live(name: str, catalogs: Catalogs) -> str:
    """What a provider says today against what is declared, as a report for an issue.

    Raises:
        UnknownNameError: No such provider is declared.
        AccessError: It does not answer at all.
    """
    if name == "earth-engine":
        return _live_earth_engine(catalogs)
    known = [*catalogs.names("providers"), "earth-engine"]
    if name not in known:
        raise UnknownNameError("provider", name, known, where="las doctor", key="--live")
    provider = catalogs.provider(name, where="las doctor", key="--live")
    imagery = [catalogs.imagery(one) for one in catalogs.names("imagery")]
    products = [catalogs.label(one) for one in catalogs.names("labels")]
    asked, lines = probe(
        provider,
        [one for one in imagery if one.at(name) is not None],
        [one for one in products if one.at(name) is not None],
    )
    wrong = sum(line.startswith("DIFFERS") for line in lines)
    head = (
        f"las doctor --live {name}: {provider.api}, las_builder {__version__}, "
        f"Python {sys.version.split()[0]}; {asked} requests (at most {MOST_REQUESTS}); "
        f"{wrong} of {len(lines)} assumptions differ"
    )
    return "\n".join([head, *lines])


def _live_earth_engine(catalogs: Catalogs) -> str:
    """Each numbered assumption about Earth Engine, asked for with the user's credentials."""
    from las_builder.access.earth_engine import EarthEngine
    from las_builder.access.earth_engine.probe import probe as ask

    service = catalogs.earth_engine
    asked, lines = ask(EarthEngine(service), catalogs.assumptions)
    wrong = sum(line.startswith("DIFFERS") for line in lines)
    head = (
        f"las doctor --live earth-engine: {service.endpoint}, las_builder {__version__}, "
        f"earthengine-api {_version('earthengine-api')}, Python {sys.version.split()[0]}; {asked} "
        f"requests (at most {MOST_REQUESTS}); {wrong} of {len(lines)} assumptions differ"
    )
    return "\n".join([head, *lines])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _shown(name: str, value: str) -> str:
    if any(word in name.upper() for word in SECRET):
        return "(set)"
    return re.sub(r"\?\S+", "?(set)", re.sub(r"[^/]*@", "(set)@", value))


def _there(is_there: bool) -> str:
    return "found" if is_there else "none"
