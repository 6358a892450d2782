"""A product that joins a cube: fetched alone, beside what is there, the same bytes however often."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from fetch_kit import FakeAccess, job, numbers, patches

from las_builder.access import LabelRequest, ReadRequest
from las_builder.catalogs import Catalogs, Imagery, LabelProduct
from las_builder.core.types import Chip, Gap, GapReason, LabelSource, PinnedScene
from las_builder.core.workspace import SubsetSpace, sha256_file, sha256_tree
from las_builder.errors import AccessError
from las_builder.fetch import (
    AddJob,
    CubeLayout,
    add_arrays,
    add_product,
    blocks_of,
    create_round,
    fetch_block,
    open_cube,
    read_block,
)

NAME = "esa-worldcover-v100"
EVIDENCE = "dynamic-world"


@dataclass(frozen=True)
class Counting(FakeAccess):
    """Counts what it is asked for; `silent` sites have none of the product, `broken` ones fail."""

    asked: Counter[str] = field(default_factory=Counter)
    silent: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def settle(self) -> None:
        self.asked["settled"] += 1

    def read(self, imagery: Imagery, requests: Sequence[ReadRequest]) -> list[Chip | Gap]:
        self.asked["imagery"] += len(requests)
        return super().read(imagery, requests)

    def labels(
        self, product: LabelProduct, requests: Sequence[LabelRequest]
    ) -> list[LabelSource | Gap]:
        self.asked[product.name] += len(requests)
        if any(r.site in self.broken for r in requests):
            raise AccessError("fake", "labels", "503", retryable=True)
        out: list[LabelSource | Gap] = []
        for request, answer in zip(requests, super().labels(product, requests), strict=True):
            if request.site in self.silent:
                answer = Gap(request.site, GapReason.NO_LABEL, "not here")  # noqa: PLW2901
            elif isinstance(answer, LabelSource) and product.evidence:
                layers = {
                    name: np.full(request.grid.shape, k / 10, np.float32)
                    for k, name in enumerate(product.evidence)
                }
                answer = replace(answer, evidence=layers)  # noqa: PLW2901
            out.append(answer)
        return out


@pytest.fixture
def first(tmp_path: Path, layout: CubeLayout, small_blocks: int) -> list[PinnedScene]:
    """Ten rows in three blocks, of which the second is a gap; all of them done."""
    rows = patches(10)
    create_round(tmp_path / "cube.zarr" / "0", rows, layout)
    for n in range(3):
        fetch_block(job(tmp_path, layout, rows, n, access=FakeAccess(no_label=("site-1",))))
    return rows


def adding(home: Path, layout: CubeLayout, rows: list[PinnedScene], n: int, **more) -> AddJob:
    product = Catalogs.load().label(more.pop("product", NAME))
    block = blocks_of(0, len(rows), layout)[n]
    space = SubsetSpace(home)
    add_arrays(home / "cube.zarr" / "0", len(rows), layout, product)
    settings = {
        "block": block, "patches": tuple(rows[block.start : block.stop]), "product": product,
        "access": Counting(), "group": home / "cube.zarr" / "0", "first": space.block(block.name),
        "manifest": space.added(block.name, product.name), **more,
    }  # fmt: skip
    return AddJob(**settings)


def files(home: Path) -> dict[str, str]:
    return {p.relative_to(home).as_posix(): sha256_file(p) for p in home.rglob("*") if p.is_file()}


@pytest.mark.parametrize("product", [NAME, EVIDENCE])
def test_only_the_product_is_read_and_nothing_that_was_there_is_touched(
    tmp_path: Path,
    layout: CubeLayout,
    first: list[PinnedScene],
    product: str,
) -> None:
    before = files(tmp_path)
    access = Counting()
    for n in range(3):
        add_product(adding(tmp_path, layout, first, n, access=access, product=product))
    assert access.asked == {product: 9, "settled": 3}  # not for the gap, and no imagery
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(
        product in name or name.endswith("evidence/zarr.json") for name in after.keys() - before
    )
    cube = open_cube(tmp_path / "cube.zarr")
    made = Catalogs.load().label(product)
    codes = np.array([c.value for c in made.classes if c.means])
    stored = [row for row in first if row.site != "site-1"]
    for i, row in enumerate(stored):
        want = codes[numbers(row.grid, 0) % len(codes)]
        np.testing.assert_array_equal(cube[f"labels/{product}"][i].values, want)
        assert (cube[f"shares/{product}"][i].values == 100).all()
        for k in range(len(made.evidence)):
            np.testing.assert_allclose(cube[f"evidence/{product}"][i, k].values, k / 10, rtol=1e-6)
    assert "layer" not in cube[f"labels/{product}"].dims
    cube.close()


def test_where_it_has_nothing_the_patch_stays(
    tmp_path: Path,
    layout: CubeLayout,
    first: list[PinnedScene],
) -> None:
    done = adding(tmp_path, layout, first, 0, access=Counting(silent=("site-2",)))
    results = add_product(done)
    assert [(r.state, r.reason) for r in results] == [
        ("stored", ""), ("no patch", ""), ("gap", "no-label"), ("stored", ""),
    ]  # fmt: skip
    lines, whole = read_block(SubsetSpace(tmp_path), done.block, [done.product])
    assert whole
    assert [line.state for line in lines] == ["stored", "gap", "stored", "stored"]
    assert [NAME in (line.versions or {}) for line in lines] == [True, False, False, True]
    cube = open_cube(tmp_path / "cube.zarr")
    at = list(cube["site"].values).index("site-2")
    assert (cube[f"labels/{NAME}"][at].values == done.product.nodata).all()
    assert (cube["labels/esa-worldcover-v200"][at].values != 0).any()
    cube.close()


def test_a_block_is_whole_only_with_every_product_that_joined(
    tmp_path: Path,
    layout: CubeLayout,
    first: list[PinnedScene],
) -> None:
    space, catalogs = SubsetSpace(tmp_path), Catalogs.load()
    both = [catalogs.label(NAME), catalogs.label("nlcd")]
    part = adding(tmp_path, layout, first, 0)
    assert read_block(space, part.block, both)[1] is False
    add_product(part)
    assert read_block(space, part.block, both)[1] is False
    assert read_block(space, part.block, both[:1])[1] is True
    assert read_block(space, part.block, [])[1] is True  # it left the recipe again
    add_product(adding(tmp_path, layout, first, 0, product="nlcd"))
    lines, whole = read_block(space, part.block, both)
    assert whole
    assert set(lines[0].versions or {}) == {p.name for p in (*layout.products, *both)}


def test_killed_anywhere_and_in_any_order_it_gives_the_same_bytes(
    tmp_path: Path,
    layout: CubeLayout,
    first: list[PinnedScene],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    for home in (once, again):
        for part in ("cube.zarr", "blocks"):
            shutil.copytree(tmp_path / part, home / part)
    for n in range(3):
        add_product(adding(once, layout, first, n))

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    for n in (2, 0, 1):
        with monkeypatch.context() as patched:
            patched.setattr("las_builder.fetch.added.write_json", die)
            with pytest.raises(KeyboardInterrupt):
                add_product(adding(again, layout, first, n))
        assert not adding(again, layout, first, n).manifest.exists()
        add_product(adding(again, layout, first, n))
    assert sha256_tree(again) == sha256_tree(once)
    assert add_product(adding(again, layout, first, 0, access=None))[0].state == "stored"
    assert sha256_tree(again) == sha256_tree(once)


def test_failure_leaves_it_undone_unless_given_up(
    tmp_path: Path,
    layout: CubeLayout,
    first: list[PinnedScene],
) -> None:
    broken = adding(tmp_path, layout, first, 0, access=Counting(broken=("site-3",)))
    with pytest.raises(AccessError, match="503"):
        add_product(broken)
    assert not broken.manifest.exists()
    results = add_product(replace(broken, give_up=True))
    assert [r.state for r in results] == ["stored", "no patch", "stored", "failed"]
    lines, _ = read_block(SubsetSpace(tmp_path), broken.block, [broken.product])
    assert lines[3].state == "stored"  # the imagery is there whatever the product says
    assert NAME not in (lines[3].versions or {})
