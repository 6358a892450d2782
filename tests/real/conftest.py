"""The real rasters, indexed, built and audited: every case once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from las_builder import recipe, run
from las_builder.access.folders import index_folder
from las_builder.catalogs import Catalogs
from las_builder.core.workspace import Workspace
from las_builder.pack import Decoded, open_shards

HERE = Path(__file__).parent
CATALOGS = Catalogs.load(HERE / "catalogs")


class Built:
    """One real case, built once."""

    def __init__(self, case: str, data: Path, home: Path) -> None:
        out = home / "index" / case
        index_folder(data, HERE / case / "index.yaml", out, catalogs=CATALOGS)
        text = (HERE / case / "recipe.yaml").read_text()
        self.file = home / f"{case}.yaml"
        self.file.write_text(text.replace("work/index", str(home / "index")))
        self.corpus = recipe.read(str(self.file), catalogs=CATALOGS)
        self.space = Workspace(home / case)
        with run.Engine(workers=1) as engine:
            self.report = run.build(self.corpus, self.space, engine)
        self.subset = self.corpus.subsets[0]
        self.shards = open_shards(self.space.shards, self.space.index)

    def samples(self) -> list[Decoded]:
        return [self.shards.read(entry) for entry in self.shards.entries]

    def codes(self, sample: Decoded) -> np.ndarray:
        """Class indices back to the product's codes; ignore as nodata."""
        product = self.subset.labels[0]
        back = {i: code for code, i in self.subset.crosswalk.table.items() if i != 255}
        table = np.full(256, product.nodata, np.int64)
        for i, code in back.items():
            table[i] = code
        return table[sample.label]

    def cube(self) -> xr.DataTree:
        home = self.space.subset(self.subset.name).cube
        return xr.open_datatree(home / "0", engine="zarr", consolidated=False)

    def audit(self) -> dict[str, Any]:
        """`audit.json`, beside a page that is there."""
        with run.Engine(workers=1) as engine:
            run.audit(self.corpus, self.space, engine)
        folder = self.space.subset(self.subset.name).audit
        assert (folder / "index.html").stat().st_size > 10_000
        said: dict[str, Any] = json.loads((folder / "audit.json").read_text())
        return said


def north_carolina(data: Path, home: Path) -> Path:
    """Its rasters with the crop of CDL where it belongs: the file is 18 rows, 540 m, too far north.

    Water of the two maps meets at 0.80 of their union so, at 0.31 as the file says, and at less for
    every other shift by up to 40 pixels. Whoever cropped it kept the corner of the uncropped raster.
    """
    folder = home / "moved" / "nlcd_cdl_north_carolina"
    folder.mkdir(parents=True)
    for name in ("Annual_NLCD_LndCov_2021_CU_C1V0.tif", "cdl_2019_crop_to_nlcd.tif"):
        shutil.copyfile(data / folder.name / name, folder / name)
    with rasterio.open(folder / "cdl_2019_crop_to_nlcd.tif", "r+") as file:
        at = file.transform
        file.transform = Affine(at.a, at.b, at.c, at.d, at.e, at.f - 540)
    return folder.parent


@pytest.fixture(scope="session")
def build(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    done: dict[tuple[str, bool], Built] = {}

    def of(case: str, *, as_it_came: bool = False) -> Built:
        if (case, as_it_came) not in done:
            home = tmp_path_factory.mktemp(case)
            data = shared_data
            if case == "north-carolina" and not as_it_came:
                data = north_carolina(shared_data, home)
            done[case, as_it_came] = Built(case, data, home)
        return done[case, as_it_came]

    return of
