"""What others make of a published corpus: validators, table readers, a STAC API, cards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import mlcroissant
import pystac_client
import pytest
import rustac
import stac_validator.utilities
import stac_validator.validate
import webdataset
from huggingface_hub import DatasetCard
from kit_loopback import Loopback, serve
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from stac_check.lint import Linter
from stac_geoparquet.arrow import stac_table_to_items
from stac_validator.stac_validator import StacValidate

import las_builder
from las_builder.publish import publish, write_cards

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:(rdflib|mlcroissant).*")


@pytest.fixture
def home(whole: Any) -> Path:
    """The folder of a published corpus, JSON items and cards included."""
    publish(whole.space.catalog, whole.corpus, whole.records, write_items=True)
    write_cards(whole.space.root, whole.corpus, {})
    return Path(whole.space.root)


def documents(home: Path) -> list[Path]:
    return sorted((home / "catalog").rglob("*.json"))


@pytest.fixture
def offline(schemas: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """stac-validator and stac-check get their schemas here."""

    def fetch(uri: str) -> Any:
        return schemas[uri.removesuffix("#")]

    for module in (stac_validator.utilities, stac_validator.validate):
        monkeypatch.setattr(module, "fetch_and_parse_schema", fetch)


@pytest.mark.usefixtures("offline")
def test_stac_validator_and_stac_check(home: Path) -> None:
    seen = 0
    for path in documents(home):
        said = json.loads(path.read_text())
        checked = StacValidate()
        assert checked.validate_dict(said), checked.message
        lint = Linter(said)
        assert lint.valid_stac, (path.name, lint.error_msg)
        seen += 1
    assert seen == 1 + 2 + 9
    broken = json.loads(documents(home)[-1].read_text())
    del broken["properties"]["datetime"]
    assert not StacValidate().validate_dict(broken)
    assert not Linter(broken).valid_stac


def test_rustac_duckdb_and_stac_geoparquet_see_the_same_items(home: Path) -> None:
    table = str(home / "catalog" / "items.parquet")
    wanted = {
        said["id"]: said
        for said in (json.loads(p.read_text()) for p in (home / "catalog").glob("*/items/*.json"))
    }

    async def read() -> Any:
        return await rustac.read(table)

    theirs = {said["id"]: said for said in asyncio.run(read())["features"]}
    libraries = {
        "rustac": theirs,
        "stac-geoparquet": {
            said["id"]: said for said in stac_table_to_items(las_builder.open_corpus(home).table)
        },
    }
    for name, items in libraries.items():
        assert set(items) == set(wanted), name
        for key, item in items.items():
            links = {(link["rel"], link["href"].rpartition("/")[2]) for link in item["links"]}
            mine = wanted[key]["links"]
            assert links == {(link["rel"], link["href"].rpartition("/")[2]) for link in mine}
            for field in ("las:split", "las:site", "license", "las:shard", "proj:code", "version"):
                assert item["properties"].get(field) == wanted[key]["properties"].get(field)
            asset = item["assets"]["label"]
            assert asset["file:checksum"] == wanted[key]["assets"]["label"]["file:checksum"]
            assert asset["las:offset"] == wanted[key]["assets"]["label"]["las:offset"]
    found = duckdb.sql(
        f"""select id, assets.image."las:offset", bbox.xmin from '{table}'
            where "las:split" = 'val' order by id"""
    ).fetchall()
    val = {k: v for k, v in wanted.items() if v["properties"]["las:split"] == "val"}
    assert found == [
        (k, v["assets"]["image"]["las:offset"], v["bbox"][0]) for k, v in sorted(val.items())
    ]


@pytest.fixture
def api(home: Path, tmp_path: Path) -> Iterator[Loopback]:
    """The catalogue behind a STAC API."""
    items = [json.loads(p.read_text()) for p in (home / "catalog").glob("*/items/*.json")]
    collections = [json.loads(p.read_text()) for p in (home / "catalog").glob("*/collection.json")]
    for thing in [*items, *collections]:  # an API has links of its own
        thing["links"] = [link for link in thing["links"] if "://" in link["href"]]
    said = {
        "items": [item for item in items if item["geometry"] is not None],
        "collections": collections, "extensions": ["filter", "query"], "page": 2,
    }  # fmt: skip
    (tmp_path / "apis.json").write_text(json.dumps({"stac.test/v1": said}))
    loopback = serve(tmp_path)
    yield loopback
    loopback.stop()


def test_pystac_client_searches_it(api: Loopback) -> None:
    class Here(HTTPAdapter):
        def send(self, request: Any, *args: Any, **more: Any) -> Any:
            request.url = request.url.replace("https://", f"http://127.0.0.1:{api.port}/")
            return super().send(request, *args, **more)

    to_loopback = StacApiIO()
    to_loopback.session.mount("https://", Here())
    client = pystac_client.Client.open("https://stac.test/v1", stac_io=to_loopback)
    assert {c.id for c in client.get_collections()} == {"s2", "l8"}
    found = client.search(collections=["s2"], datetime="2021-06-02/2021-06-03", limit=2)
    assert sorted(item.id for item in found.items()) == [
        "s2-antimeridian-20210603", "s2-south-20210602",
    ]  # fmt: skip
    north = client.search(bbox=[0, 50, 20, 60], query={"las:split": {"eq": "val"}})
    assert {item.id for item in north.items()} == {"s2-north-20210611", "l8-north-20210611"}
    one = next(item for item in found.items() if item.id == "s2-south-20210602")
    asset = one.assets["label"].to_dict()
    assert asset["las:member"] == "south-20210602.label.tif"
    assert asset["las:length"] > 0


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_croissant_is_valid_and_its_records_are_the_samples(home: Path) -> None:
    data = mlcroissant.Dataset(jsonld=home / "croissant.json")
    assert not data.metadata.ctx.issues.errors
    records = list(data.records("samples"))
    table = las_builder.open_corpus(home).table
    assert [text(r["samples/id"]) for r in records] == table["id"].to_pylist()
    assert {text(r["samples/las:split"]) for r in records} == {"train", "val"}
    classes = list(data.records("s2-classes"))
    assert text(classes[0]["s2-classes/name"]) == "tree_cover"
    broken = json.loads((home / "croissant.json").read_text())
    broken["recordSet"][1]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=broken)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_card_as_the_hub_reads_it(home: Path) -> None:
    card = DatasetCard.load(home / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.task_categories == ["image-segmentation"]
    assert card.data.size_categories == ["n<1K"]
    configs = {config["config_name"]: config["data_files"] for config in card.data.configs}
    assert set(configs) == {"s2", "l8"}
    keys = []
    for file in configs["s2"]:
        shards = sorted(str(p) for p in home.glob(file["path"]))
        assert shards
        for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
            keys.append((file["split"], sample["__key__"]))
            assert sample["json"]
    assert keys[0] == ("train", "north-20210601")
    assert ("validation", "north-20210611") in keys
    assert len(keys) == 7
    assert "SYNTHETIC" in card.text
    assert "ESA WorldCover project 2021" in card.text
    assert "CC-BY-4.0" in card.text
