"""Licences: what a corpus may be passed on under, and what cannot be kept at once."""

from __future__ import annotations

import pytest

from las_builder.core.licence import LICENCES, CorpusLicence, Ingredient, combined, licence_of
from las_builder.errors import LicenceError


def of(*ids: str) -> CorpusLicence:
    return combined(
        (Ingredient(f"n{i}", licence_of(id_)) for i, id_ in enumerate(ids)), where="r.yaml"
    )


@pytest.mark.parametrize(
    ("ids", "whole"),
    [
        (["CC0-1.0", "public-domain-us"], "CC0-1.0"),
        (["CC0-1.0", "copernicus"], "CC-BY-4.0"),
        (["CC-BY-4.0", "etalab-2.0", "MIT"], "CC-BY-4.0"),
        (["CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"], "CC-BY-SA-4.0"),
        (["CC-BY-NC-4.0", "CC-BY-4.0"], "CC-BY-NC-4.0"),
        (["CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", "copernicus"], "CC-BY-NC-SA-4.0"),
        (["ODbL-1.0", "CC-BY-4.0"], "ODbL-1.0"),
        (["research-only", "CC-BY-NC-SA-4.0"], "other"),
        (["CC-BY-ND-4.0", "CC-BY-4.0"], "other"),
        (["CC-BY-4.0", "nobody-knows"], "other"),
    ],
)
def test_the_strictest_decides(ids: list[str], whole: str) -> None:
    for order in (ids, ids[::-1]):
        assert of(*order).id == whole


def test_what_is_said_of_it() -> None:
    alike = of("CC-BY-NC-SA-4.0", "copernicus", "CC0-1.0")
    assert alike.as_json() == {
        "id": "CC-BY-NC-SA-4.0", "attribution": True, "non_commercial": True, "share_alike": True,
        "redistribution": True, "unknown": [], "because": ["n0 (CC-BY-NC-SA-4.0)"],
    }  # fmt: skip
    assert "no commercial use" in str(alike)
    shut = of("research-only", "CC-BY-4.0")
    assert not shut.redistribute
    assert "not to be passed on, because of n0" in str(shut).replace(")", "")
    assert of("other", "CC-BY-4.0").unknown == ("n0 (other)",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CC-BY-SA-4.0", "CC-BY-NC-4.0"),
        ("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"),
        ("ODbL-1.0", "CC-BY-NC-4.0"),
        ("ODbL-1.0", "CC-BY-SA-4.0"),
        ("CC-BY-SA-4.0", "research-only"),
        ("CC-BY-NC-SA-4.0", "CC-BY-ND-4.0"),
    ],
)
def test_contradictions_name_both_and_the_way_out(one: str, other: str) -> None:
    for ids in ((one, "CC-BY-4.0", other), (other, "CC-BY-4.0", one)):
        with pytest.raises(LicenceError) as said:
            of(*ids)
        text = str(said.value)
        assert f"({one})" in text
        assert f"({other})" in text
        assert "r.yaml" in text
        assert "two corpora" in text
        assert "\n" not in text


def test_who_has_to_be_asked() -> None:
    asked = {name for name, licence in LICENCES.items() if licence.needs_consent}
    assert asked == {
        "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0",
        "CC-BY-NC-ND-4.0", "research-only",
    }  # fmt: skip
    assert licence_of("other").needs_consent
    assert not licence_of("other", "copernicus").needs_consent
    assert all(licence.source for licence in LICENCES.values())
