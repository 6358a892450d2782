"""What `las doctor` says of this machine, to be pasted where everybody reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from las_builder.catalogs import Catalogs
from las_builder.errors import UnknownNameError
from las_builder.run.doctor import doctor, live


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HTTPS_PROXY", "http://user:hunter2@proxy:3128", "http://(set)@proxy:3128"),
        ("http_proxy", "http://proxy:3128", "http://proxy:3128"),
        ("HTTP_PROXY", "user:hunter2@proxy:3128", "(set)@proxy:3128"),
        ("GDAL_HTTP_USERPWD", "user:hunter2", "(set)"),
        ("GDAL_HTTP_PROXYUSERPWD", "user:hunter2", "(set)"),
        ("GDAL_HTTP_HEADERS", "Authorization: Bearer hunter2", "(set)"),
        ("GDAL_HTTP_BEARER", "hunter2", "(set)"),
        (
            "LAS_MIRRORS",
            "https://a.org/=http://user:hunter2@b.org/ https://c.org/=https://d.org/x?sig=hunter2&a=b",
            "https://a.org/=http://(set)@b.org/ https://c.org/=https://d.org/x?(set)",
        ),
        ("AWS_SECRET_ACCESS_KEY", "hunter2", "(set)"),
        ("AWS_SESSION_TOKEN", "hunter2", "(set)"),
        ("AWS_PROFILE", "landsat", "landsat"),
        ("GDAL_CACHEMAX", "512", "512"),
    ],
)
def test_no_secret_is_shown(
    name: str, value: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    said = doctor(tmp_path, Catalogs.load())
    assert f"{name}: {shown}" in said.splitlines()
    assert "hunter2" not in said


def test_who_can_be_asked() -> None:
    with pytest.raises(
        UnknownNameError, match="allowed: a provider among earth-engine, earth-search, planetary"
    ):
        live("nobody", Catalogs.load())
