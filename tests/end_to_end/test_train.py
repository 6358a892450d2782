"""Rasters of a user, packed, trained on, mapped: one command after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from kit import Las
from train_kit import TINY

from las_builder.models import checkpoint
from las_builder.train import state


@pytest.fixture
def packed(
    las: Las, tmp_path: Path, folder: Path, content: dict[str, object],
    recipe: Callable[[dict[str, object]], Path],
) -> Path:  # fmt: skip
    """A recipe whose workspace has four samples of train."""
    said = las("index", folder, "--out", tmp_path / "catalogue")
    assert said.code == 0, said
    content["splits"] = {"train": 1, "val": 0, "test": 0, "seed": 1}
    path = recipe(content)
    said = las("build", path, "--work", tmp_path / "work", "--workers", 1)
    assert said.code == 0, said
    return path


def test_train_and_predict(las: Las, tmp_path: Path, folder: Path, packed: Path) -> None:
    torch.set_num_threads(1)
    run, config = tmp_path / "runs" / "a", tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({
        "size": "nano", "model": {**TINY, "hiera": {"embed": 8, "blocks": [1, 1, 2, 1]}},
        "batch": 2, "crop": 32, "warmup": 2, "save_every": 2, "workers": 0, "log_every": 1,
    }))  # fmt: skip
    asked = ("train", packed, "--work", tmp_path / "work", "--config", config, "--out", run,
             "--device", "cpu")  # fmt: skip
    said = las(*asked, "--steps", 3)
    assert said.code == 0, said
    assert said.out.splitlines()[-2:] == [str(run / "final.safetensors"), str(run / "report.html")]
    progress = state.load(run / "last.safetensors")["progress"]
    assert progress["data"][0][:2] == ["tiny", 4]
    assert progress["looks"][-1]["subsets"]["tiny"]["agreement"] is None  # no val: no claim
    said = las(*asked, "--steps", 3)  # it is done; the same command says so again
    assert said.code == 0
    said = las(*asked, "--steps", 4)
    assert said.code == 2
    assert "`steps` is 4; allowed: 3, which began this run" in said.err

    first, begun = tmp_path / "first.safetensors", tmp_path / "b" / "final.safetensors"
    known = {"subsets": ["las-hr-x"], "products": ["potsdam"], "classes": []}
    model = checkpoint.load(run / "final.safetensors")
    checkpoint.save(model, first, {"trained_on": json.dumps(known)})
    said = las(*asked[:-4], "--out", tmp_path / "b", "--steps", 1, "--from", first)
    assert said.code == 0, said
    record = checkpoint.record_of(checkpoint.describe(begun)[1])
    assert record is not None
    assert record["subsets"] == ["las-hr-x", "tiny"]
    assert record["products"][0] == "potsdam"
    assert len(record["products"]) == 2
    said = las(*asked[:-4], "--out", tmp_path / "c", "--from", run / "final.safetensors",
               "--set", "model={width: 16}")  # fmt: skip
    assert said.code == 2
    assert "The checkpoint is of another" in said.err
    assert not (tmp_path / "c").exists()

    out = tmp_path / "map.tif"
    said = las("predict", run / "final.safetensors", folder / "image.tif", "--classes",
               "tree cover, cropland, built-up area", "-o", out, "--imagery", "sentinel-2-l2a",
               "--bands", "B02,B03", "--device", "cpu")  # fmt: skip
    assert said.code == 0, said
    with rasterio.open(out) as made, rasterio.open(folder / "image.tif") as given:
        assert made.transform == given.transform
        assert set(np.unique(made.read(1))) <= {0, 1, 2}
    assert checkpoint.describe(run / "final.safetensors")[1]["step"] == "3"


def test_what_is_refused_before_anything_is_written(las: Las, tmp_path: Path, packed: Path) -> None:
    base = ("train", packed, "--work", tmp_path / "work", "--out", tmp_path / "r", "--size", "nano")
    for more, message in (
        (("--size", "huge"), "model size"),
        (("--set", "steps"), "KEY=VALUE"),
        (("--init", "sam3=x"), "sam2=PATH"),
        (("--init", "sam2=none.pt"), "a file"),
        (("--set", "model={text: georsclip-vit-b-32}"), "--init georsclip=PATH"),
        (("--from", packed), "safetensors"),
    ):
        said = las(*base, *more)
        assert said.code == 2, (more, said)
        assert message in said.err
        assert said.err.count("\n") == 1
    said = las("train", packed, packed, *base[2:])
    assert (said.code, "subsets of different names" in said.err) == (2, True)
    said = las("train", packed, "--work", tmp_path / "elsewhere", "--size", "nano")
    assert (said.code, "las pack" in said.err) == (2, True)
    assert not (tmp_path / "r").exists()
