"""Earth Engine by its emulator: recipes against STAC on the same files, and faults on the wire.

Every drawn recipe and `las-hr-ortho`, 10 sites each, end to end by Google's own client: pixels and
labels against those that STAC gives, the estimate against what the server counted.

    python benchmarks/earth_engine.py recipes [NAME ...]

Sites of one Sentinel-2 band stack with one label map; the server allows so many requests a second
and in flight, answers after 50 ms, and refuses 1 % with 429, 2 % with 503 and cuts 1 % short; the
other run has no faults. Options are those of `open_data.py`.

    python benchmarks/earth_engine.py faults --sites 2000 --rate 100 --in-flight 40 --workers 4
    python benchmarks/earth_engine.py faults --sites 500 --rate 20 --in-flight 8    # the rate sets the pace
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import open_data  # noqa: E402
from ee_end_to_end import compare  # noqa: E402
from ee_replica import CASES, Both, add_image, home, list_map, make  # noqa: E402
from kit_loopback import Loopback, serve  # noqa: E402
from replica import Replica  # noqa: E402

from las_builder.catalogs import Catalogs  # noqa: E402

PLACE = "earthengine-highvolume.googleapis.com"


def publish(root: Path, side: int = open_data.SIDE, tile: int = open_data.TILE, step: int = open_data.STEP) -> Path:  # fmt: skip
    """The tiles and the map of `open_data.py`, as images of Earth Engine."""
    recipe = open_data.publish(root, side, tile, step)
    catalogs, both = Catalogs.load(), Both(Replica(root))
    imagery, product = catalogs.imagery("sentinel-2-l2a"), catalogs.label("esa-worldcover-v200")
    said = json.loads((root / "apis.json").read_text())
    ours = imagery.at("earth-search")
    assert ours is not None
    # The tiles have four bands; a scene without all of them would be passed over.
    for listed in said["earth-search.aws.element84.com/v1"]["items"]:
        every = {b.name: ours.assets.get(b.name, b.name) for b in imagery.bands}
        first = listed["assets"][every["B02"]]
        assets = {n: listed["assets"].get(k, first) for n, k in every.items()}
        assets["SCL"] = listed["assets"][ours.assets["SCL"]]
        add_image(both, imagery, {**listed, "assets": assets})
    (mapped,) = said["planetarycomputer.microsoft.com/api/stac/v1"]["items"]
    list_map(
        both, product, "2021", {"codes": mapped["assets"]["map"]["href"]}, None,  # type: ignore[arg-type]
        datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC), item_too=False,
    )  # fmt: skip
    (root / "earth_engine.json").write_text(
        json.dumps({"assets": both.assets, "projects": both.projects})
    )
    recipe.write_text(recipe.read_text().replace("source: earth-search", "source: earth-engine"))
    home(root)
    return recipe


def limits(root: Path, rate: float, in_flight: int) -> Path:
    """Our declaration of the service with the limits that the server enforces."""
    folder = root / "catalogs" / "earth-engine"
    folder.mkdir(parents=True, exist_ok=True)
    said = yaml.safe_load((ROOT / "catalogs" / "earth-engine" / "service.yaml").read_text())
    said.update(per_second=rate, in_flight=in_flight)
    (folder / "service.yaml").write_text(yaml.safe_dump(said))
    return folder.parent


def at_home(root: Path) -> None:
    """Credentials of `earthengine authenticate`, and no others."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        os.environ.pop(name, None)
    os.environ.update(HOME=str(home(root)), NO_GCE_CHECK="true")


def recipes(names: list[str], root: Path) -> None:
    """Each recipe: sample, scenes, estimate, build; then every patch against STAC."""
    for name in names:
        place = root / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        both, recipe = make(place, name)
        at_home(place)
        server = serve(place)
        try:
            print(json.dumps(one(both, recipe, server, place / "work")), flush=True)
        finally:
            server.stop()


def one(both: Both, recipe: Path, server: Loopback, work: Path) -> dict[str, Any]:
    """What a recipe came to."""
    os.environ["LAS_MIRRORS"] = server.mirrors
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def las(stage: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "las_builder.cli", stage, str(recipe), "--work", str(work)]
        done = subprocess.run(
            [*command, *more], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"las {stage} of {recipe.parent.name}:\n{done.stderr[-3000:]}")
        return done

    las("sample")
    las("scenes", "--workers", "1", "--source", "earth-engine")
    las("estimate", "--workers", "1", "--source", "earth-engine")
    before, spent = server.seen(), tell(server, "work")
    began = time.monotonic()
    las("build", "--workers", "1", "--source", "earth-engine")
    seconds, seen = time.monotonic() - began, server.seen()
    name = yaml.safe_load(recipe.read_text())["name"]
    logs = work / name / "logs"
    guess, sent = (json.loads((logs / f"{n}.json").read_text()) for n in ("estimate", "wire"))
    started = seen["requests"] - before["requests"] - sent["requests"]
    return {
        "recipe": name, **compare(both, recipe, work), "seconds": round(seconds, 1),
        "requests": sent["requests"], "and to start": started,
        "requests estimated": guess[name]["requests"] / sent["requests"],
        "bytes estimated": guess[name]["bytes"] / sent["bytes"],
        "eecu estimated": guess[name]["eecu_seconds"] / (tell(server, "work") - spent),
        "in vain": seen["requests"] - seen["answered"],
    }  # fmt: skip


def tell(server: Loopback, what: str) -> Any:
    with urlopen(f"http://127.0.0.1:{server.port}/{PLACE}/{what}", timeout=10) as answer:
        return json.loads(answer.read())


def main() -> None:
    what, *rest = sys.argv[1:] or ["recipes"]
    if what == "recipes" and len(rest) != 1:
        for name in rest or CASES:  # each by itself: what is remembered of URLs differs
            subprocess.run([sys.executable, __file__, "recipes", name], check=True)
        return
    if what == "recipes":
        root = Path(tempfile.mkdtemp(prefix="earth-engine-"))
        try:
            recipes(rest, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        return
    sys.argv[1:] = rest
    folder = Path(tempfile.mkdtemp(prefix="earth-engine-home-"))
    at_home(folder)
    open_data.main(publish, limits)


if __name__ == "__main__":
    main()
