"""decisions.csv: what it does to a label, and every way to get it wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from las_builder.core.types import Harmonised
from las_builder.errors import InputError
from las_builder.harmonise.decisions import decided, dropped, kept, read_decisions

CLASSES = ["water", "tree_cover", "grassland"]
SITES = {"a-1", "a-2"}
HEAD = "site,action,class,to,who,why\n"


def label(classes: list[list[int]]) -> Harmonised:
    array = np.array(classes, np.uint8)
    return Harmonised(
        taxonomy="t", classes=array, confidence=np.where(array == 255, 255, 80).astype(np.uint8),
        confidence_kind="prior", voters=np.ones_like(array),
    )  # fmt: skip


def test_decisions_change_one_class_of_one_site(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(
        "\ufeff" + HEAD
        + 'a-1,relabel,water,grassland,A. B.,"dry, in both images"\n'
        + "a-1,relabel,grassland,water,A. B.,swapped\r\n"
        + "\n"
        + "a-1,ignore-class,tree_cover,,A. B.,clouds\n"
        + "a-1,keep,,,A. B.,rare\n"
        + "a-2, drop ,,,C. D.,shifted\n",
        encoding="utf-8",
    )  # fmt: skip
    found = read_decisions(path, SITES, CLASSES)
    assert (kept(found["a-1"]), dropped(found["a-1"])) == (True, False)
    assert (kept(found["a-2"]), dropped(found["a-2"])) == (False, True)
    before = label([[0, 0, 1], [2, 255, 1]])
    after, said = decided(before, found["a-1"], CLASSES)
    assert after.classes.tolist() == [[2, 2, 255], [0, 255, 255]]  # swapped, not chained
    assert (after.confidence == 255).all()
    assert after.confidence_kind is None
    assert before.classes.tolist() == [[0, 0, 1], [2, 255, 1]]
    assert said == [
        {"action": "relabel", "class": "water", "to": "grassland", "pixels": 2},
        {"action": "relabel", "class": "grassland", "to": "water", "pixels": 1},
        {"action": "ignore-class", "class": "tree_cover", "pixels": 2},
        {"action": "keep"},
    ]
    part, _ = decided(before, found["a-1"][2:3], CLASSES)
    assert part.confidence.tolist() == [[80, 80, 255], [80, 255, 255]]
    assert part.confidence_kind == "prior"


def test_no_file_and_no_line_decide_nothing(tmp_path: Path) -> None:
    assert read_decisions(tmp_path / "none.csv", SITES, CLASSES) == {}
    (tmp_path / "empty.csv").write_text(HEAD)
    assert read_decisions(tmp_path / "empty.csv", SITES, CLASSES) == {}


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        (HEAD + "a-1,keep,,,x,y\na-9,drop,,,x,y\n", 3, "site", "a-9"),
        (HEAD + "a-1,dorp,,,x,y\n", 2, "action", "Did you mean 'drop'"),
        (HEAD + "a-1,ignore-class,watr,,x,y\n", 2, "class", "Did you mean 'water'"),
        (HEAD + "a-1,relabel,water,,x,y\n", 2, "to", "water"),
        (HEAD + "a-1,relabel,water,water,x,y\n", 2, "to", "another class"),
        (HEAD + "a-1,drop,water,,x,y\n", 2, "class", "nothing beside drop"),
        (HEAD + "a-1,ignore-class,water,tree_cover,x,y\n", 2, "to", "nothing beside"),
        (HEAD + "a-1,drop,,,,y\n", 2, "who", "who decided it"),
        (HEAD + "a-1,drop,,,x,\n", 2, "why", "a reason"),
        (HEAD + "a-1,drop,,,x\n", 2, "why", "a reason"),
        (HEAD + "a-1,drop,,,x,because, of, this\n", 2, "row", "Quote commas"),
        (HEAD + "a-1,drop,,,x,y\na-1,keep,,,x,y\n", 3, "action", "drop"),
        (HEAD + "a-1,keep,,,x,y\na-1,keep,,,x,y\n", 3, "action", "keep"),
        (HEAD + "a-1,ignore-class,water,,x,y\na-1,relabel,water,tree_cover,x,y\n", 3, "action",
         "ignore-class"),
        ("site;action;who;why\na-1;drop;x;y\n", 1, "column", "site, action"),
        ("site,action,who\na-1,drop,x\n", 1, "column", "why is missing"),
        ("site,action,who,why,note\n", 1, "column", "note"),
        ("", 1, "column", "site is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    tmp_path: Path, text: str, line: int, key: str, words: str
) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_decisions(path, SITES, CLASSES)
    said = str(error.value)
    assert said.startswith(f"{path}:{line}: `{key}`"), said
    assert words in said
    assert "\n" not in said


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_bytes(HEAD.encode() + b"a-1,drop,,,\xff\xfe,y\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_decisions(path, SITES, CLASSES)
