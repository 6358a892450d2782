"""Parts of benchmarks/zero_shot.py: its set is read as it was written, its captions say what is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from las_builder.access.virtual import VirtualEarth
from las_builder.access.virtual.leaves import INDEX, LEAVES, LETTERS
from las_builder.catalogs import Catalogs
from las_builder.core.types import IGNORE
from las_builder.evaluate.benchmark import Task, tiles_of
from las_builder.models.text import REMOTE_SENSING


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "zero_shot.py"
    spec = importlib.util.spec_from_file_location("benchmark_zero_shot", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_is_written_is_read(bench: ModuleType, tmp_path: Path) -> None:
    catalogs = bench.declared(tmp_path / "catalogs")
    sensed = bench.SETS["virtual-30m"]
    earth, imagery = VirtualEarth(catalogs), catalogs.imagery(sensed.imagery)
    chance = np.random.default_rng(4)
    found = None
    for place in bench.places(earth, "Z", "test", imagery.gsd, chance):
        found = bench.picture(earth, imagery, list(sensed.bands), *place, 24)
        if found is not None:
            break
    assert found is not None
    assert found.leaf[12, 12] == INDEX["Z"]
    bench.write_tile(tmp_path / "set" / "test", "one", found, bench.codes_of_leaves())
    task = Task.of("virtual-30m-test", catalogs)
    tiles = tiles_of(task, tmp_path / "set")
    tile = tiles.read(0)
    assert len(tiles.names) == 1
    np.testing.assert_array_equal(tile.image, found.numbers * np.float32(1e-4))
    assert task.level == "surface"
    assert task.wavelengths == tuple(sensed.bands.values())
    # Whose class each pixel is, in letters.
    letters = np.array(list(LETTERS))[found.leaf]
    said = [one.leaves for one in bench.TAXONOMY]
    for letter, index in zip(letters.ravel(), tile.truth.ravel(), strict=True):
        assert [i for i, held in enumerate(said) if letter in held] == (
            [] if index == IGNORE else [index]
        )


def test_nothing_that_was_trained_on_tells_the_unseen_class_from_others(bench: ModuleType) -> None:
    catalogs = Catalogs.load()
    below = catalogs.ontology.below
    legends = [
        [entry.members for entry in catalogs.taxonomy("worldcover-11").classes],
        *([entry.means for entry in catalogs.label(name).classes] for name in ("nlcd", "dynamic-world")),
    ]  # fmt: skip
    [unseen] = [one for one in bench.TAXONOMY if one.kind == "unseen"]
    for legend in legends:
        held = [frozenset().union(*(below(node) for node in nodes)) for nodes in legend]
        with_it = [leaves for leaves in held if set(unseen.nodes) & leaves]
        assert with_it
        assert all(LETTERS["D"] in leaves for leaves in with_it)  # sand, too


def test_captions_name_what_the_truth_holds(bench: ModuleType) -> None:
    leaf = np.full((20, 20), INDEX["Z"], np.uint8)
    leaf[:6] = INDEX["D"]  # 30 %
    leaf[0] = INDEX["L"]  # 5 %
    chance = np.random.default_rng(1)
    said = {bench.caption(leaf, REMOTE_SENSING, chance) for _ in range(200)}
    salt, sand = bench.WORDS["Z"], bench.WORDS["D"]
    every = {
        template.format(f"{a} and {b}") for template in REMOTE_SENSING for a in salt for b in sand
    }
    assert said <= every
    assert len(said) > 40
    assert set(bench.WORDS) == set(LETTERS)
    assert len(LEAVES) == len(LETTERS)


def test_places_lie_well_inside_of_their_split(bench: ModuleType, tmp_path: Path) -> None:
    from las_builder.plan.splits import SPLITS, Blocks, split_of

    earth = VirtualEarth(bench.declared(tmp_path))
    some = bench.places(earth, "BE", "test", 5.0, np.random.default_rng(2), rounds=1)
    places = np.array(list(some))
    assert len(places) > 300
    leaf = earth.truth(places[:, 0], places[:, 1], 5.0, bench.YEAR)
    assert set(np.unique(leaf)) == {INDEX["B"], INDEX["E"]}
    for north, east in ((0, 0), (0.12, 0), (-0.12, 0), (0, 0.12), (0, -0.12)):  # 13 km, and less
        number = Blocks.of(300).number(places[:, 0] + east, places[:, 1] + north)
        assert set(split_of(number, bench.BLOCKS)) == {SPLITS.index("test")}
