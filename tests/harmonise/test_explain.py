"""What `las explain` says: true of every code, at most 80 columns, and nearest names in errors."""

from __future__ import annotations

from typing import Any

import pytest
from kit import Las

from las_builder.catalogs import Catalogs
from las_builder.errors import InputError, LegendError
from las_builder.harmonise import Crosswalk
from las_builder.harmonise.explain import explain

CATALOGS = Catalogs.load()


def said(product: str, code: str | None, taxonomy: str) -> str:
    asked: Any = taxonomy if taxonomy == "native" else CATALOGS.taxonomy(taxonomy)
    return explain(CATALOGS.label(product), code, asked, CATALOGS.ontology)


@pytest.mark.parametrize("name", CATALOGS.names("labels"))
@pytest.mark.parametrize("taxonomy", ["cover-9", "level-2-use"])
def test_every_code_becomes_what_the_crosswalk_makes_of_it(name: str, taxonomy: str) -> None:
    product, asked = CATALOGS.label(name), CATALOGS.taxonomy(taxonomy)
    try:
        table_of: Any = Crosswalk.build(asked, [product], CATALOGS.ontology).table
    except LegendError:  # no code lies inside one class: then none is said to
        table_of = dict.fromkeys(product.codes, 255)
    for entry in product.classes:
        text = said(name, str(entry.value), taxonomy)
        assert max(map(len, text.splitlines())) <= 80
        index = table_of[entry.value]
        if index == 255:
            assert "No label: " in text
        else:
            assert f"It becomes {asked.classes[index].name}: " in text
    table = said(name, None, taxonomy)
    assert max(map(len, table.splitlines())) <= 80
    labels = sum(table_of[entry.value] != 255 for entry in product.classes)
    assert f"{labels} of {len(product.classes)} codes are labels." in table


def test_the_steps_of_flooded_vegetation() -> None:
    text = " ".join(said("dynamic-world", "3", "cover-9").split())
    for words in (
        "No label: it can be cropland or wetland.",
        "wetland.mangrove nothing: dynamic-world states cover, so that this part of the class looks "
        "like wetland",
        "crop.flooded itself",
        "cropland 1: crop.flooded",
        "Flooded vegetation is more than herbaceous wetland",
        "mangroves (95)",
    ):
        assert words in text
    assert said("dynamic-world", "flooded_vegetation", "cover-9") == said(
        "dynamic-world", "3", "cover-9"
    )


def test_land_use_that_can_be_seen_as_several_covers() -> None:
    text = " ".join(said("corine", "141", "cover-9").split())
    assert "built.green_urban what can be seen there: grass, tree, shrub or built" in text
    assert "It becomes built" in said("corine", "141", "level-1-use")
    assert "ours, the sources do not name it" in " ".join(said("nlcd", "43", "cover-9").split())
    assert "names the concept itself" in " ".join(
        said("esa-worldcover-v200", "95", "worldcover-11").split()
    )
    assert "cultivated_crops: the legend is the taxonomy" in " ".join(
        said("nlcd", "82", "native").split()
    )


def test_notes_speak_of_codes_that_are_there() -> None:
    notes = CATALOGS.ontology.notes
    titles = " ".join(note.title for note in notes)
    for words in ("WorldCover grassland", "Flooded vegetation", "cropland"):
        assert words in titles
    for note in notes:
        for name, codes in note.about.items():
            assert set(codes) <= CATALOGS.label(name).codes, (note.title, name)


def test_errors_name_what_is_near() -> None:
    with pytest.raises(InputError, match=r"411, 412.*Nearest are 111 .*112") as caught:
        said("corine", "14", "cover-9")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="Did you mean 'airports'"):
        said("corine", "airprots", "cover-9")


def test_on_the_command_line(las: Las) -> None:
    done = las("explain", "dynamic-world", "cover-9")
    assert done.code == 0
    assert "6 of 9 codes are labels." in done.out
    assert "It becomes water" in las("explain", "dynamic-world", "0", "level-1").out
    for wrong, words in (
        (("dynamic-word", "3", "cover-9"), "Did you mean 'dynamic-world'?"),
        (("dynamic-world", "3", "cover9"), "Did you mean 'cover-9'?"),
        (("dynamic-world", "77", "cover-9"), "Nearest are"),
    ):
        refused = las("explain", *wrong)
        assert refused.code == 2
        assert words in refused.err
