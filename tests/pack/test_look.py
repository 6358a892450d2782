"""Contact sheets: the label in the legend's colours, what was not seen pale, SYNTHETIC where it is."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from las_builder.pack import (
    Sample,
    SampleRecord,
    Shards,
    SubsetInfo,
    contact_sheet,
    decode,
    encode,
    manifest,
    open_shards,
    shard_name,
    write_index,
    write_shard,
)
from las_builder.pack.look import look_at

Make = Callable[..., tuple[Sample, SampleRecord]]
Packed = tuple[Shards, dict[str, Any], list[Sample]]


@pytest.fixture
def packed(make: Make, subset: SubsetInfo, tmp_path: Path) -> Packed:
    samples = [
        make(place, i)[0] for i, place in enumerate(("north", "south", "antimeridian", "nowhere"))
    ]
    path = tmp_path / "shards" / shard_name("s2-test", "train", 0)
    report = write_shard(path, samples, subset="s2-test", split="train")
    write_index(tmp_path / "index.parquet", [report])
    shards = open_shards(path.parent, tmp_path / "index.parquet")
    return shards, manifest([report], [subset], sources={}), samples


def test_a_patch_as_a_person_sees_it(packed: Packed) -> None:
    _, said, samples = packed
    subset = said["subsets"]["s2-test"]
    for sample in samples:
        look = look_at(decode(encode(sample)), subset)
        for i, entry in enumerate(sample.classes):
            here = look.label[sample.label == i]
            assert (here == tuple(bytes.fromhex(entry.color_hint))).all()
        assert look.classes == set(np.unique(sample.label)) - {255}
        red = sample.image[2] * 1e-4 - 0.1  # B04, by its own scale and offset
        low, high = subset["stretch"]
        seen = np.where(sample.valid, np.clip((red - low) / (high - low), 0, 1), np.nan)
        order = np.argsort(seen[sample.valid])
        assert (np.diff(look.rgb[..., 0][sample.valid][order].astype(int)) >= 0).all()
        assert look.rgb[~sample.valid].min() >= 0.65 * 255 - 1
    assert look.title.startswith("no place  2021-06-04")
    assert look_at(decode(encode(samples[1])), subset).title == "38.82°S 72.49°W  2021-06-02"
    assert look.note == "train, 93 % clear"


def test_sheet_and_page(packed: Packed, tmp_path: Path) -> None:
    shards, said, samples = packed
    for run in ("a", "b"):
        contact_sheet(
            tmp_path / f"{run}.png",
            tmp_path / f"{run}.html",
            shards,
            said,
            title="A <tiny> corpus",
            patches=3,
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert min(picture.shape[:2]) > 300
    colours = {tuple(c) for c in np.unique(picture.reshape(-1, 3), axis=0)}
    for index in np.unique(samples[0].label[samples[0].label != 255]):
        assert tuple(bytes.fromhex(samples[0].classes[index].color_hint)) in colours

    page = (tmp_path / "a.html").read_text()
    HTMLParser().feed(page)
    assert "A &lt;tiny&gt; corpus" in page
    assert "SYNTHETIC" in page
    assert "Tree cover" in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page)  # opens without a server
    pictures = re.findall(r"data:image/png;base64,([^']+)", page)
    assert len(pictures) == 2 * 3
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[1]))).convert("RGB"))
    assert shown.shape == (40, 40, 3)


def test_the_page_has_no_colour_that_its_legend_lacks(packed: Packed, tmp_path: Path) -> None:
    shards, said, samples = packed
    contact_sheet(tmp_path / "a.png", tmp_path / "a.html", shards, said, title="t", patches=9)
    page = (tmp_path / "a.html").read_text()
    legend = {tuple(bytes.fromhex(c)) for c in re.findall(r"background:#([0-9A-F]{6})", page)}
    pictures = re.findall(r"data:image/png;base64,([^']+)", page)[1::2]
    assert len(pictures) == len(samples)
    shown = set()
    for picture in pictures:
        label = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
        shown |= {tuple(int(v) for v in c) for c in np.unique(label.reshape(-1, 3), axis=0)}
    grey = (235, 235, 235)  # no label
    assert shown == legend | {grey}


def test_only_what_is_synthetic_is_marked(packed: Packed, tmp_path: Path) -> None:
    shards, said, _ = packed

    def sheet(name: str, **flags: bool) -> tuple[bytes, str]:
        subsets = {}
        for subset, synthetic in flags.items():
            subsets[subset] = {**said["subsets"]["s2-test"], "synthetic": synthetic}
        entries = tuple(replace(e, subset=subset) for subset in flags for e in shards.entries)
        png, html = tmp_path / f"{name}.png", tmp_path / f"{name}.html"
        about = {**said, "synthetic": any(flags.values()), "subsets": subsets}
        contact_sheet(png, html, replace(shards, entries=entries), about, title="t", patches=2)
        return png.read_bytes(), html.read_text()

    real, real_page = sheet("real", one=False)
    made, made_page = sheet("made", one=True)
    assert "SYNTHETIC" not in real_page
    assert (made_page.count("<b>SYNTHETIC</b>"), made_page.count("SYNTHETIC:")) == (2, 1)
    changed = np.any(
        np.asarray(Image.open(io.BytesIO(real)).convert("RGB"), int)
        != np.asarray(Image.open(io.BytesIO(made)).convert("RGB"), int),
        axis=-1,
    )
    assert 200 < changed.sum() < 0.1 * changed.size  # the word across each picture
    _, mixed_page = sheet("mixed", one=True, two=False)
    first, second = mixed_page.split("<h2>two</h2>")
    assert first.count("<b>SYNTHETIC</b>") == 2
    assert "SYNTHETIC" not in second
