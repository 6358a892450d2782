"""Reading a published corpus: its table, and the samples that are asked for, by their byte ranges.

The table is fetched whole when a corpus is opened (one request); then each sample is one request for
the bytes of that sample alone, because its members lie side by side in the shard.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from las_builder.errors import InputError, WorkspaceError
from las_builder.pack import MEMBERS, Decoded, Fetch, decode, fetcher
from las_builder.pack.read import check_names
from las_builder.publish.table import ASSETS

TABLE = "catalog/items.parquet"
_BULKY = ("type", "stac_version", "stac_extensions", "links", "assets", "bbox")
_NAMES = {member: name for name, (member, *_) in ASSETS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class OpenCorpus:
    """A published corpus."""

    url: str
    """Of its folder, which holds `catalog/` and `shards/`: a path or a URL."""

    table: pa.Table
    """`items.parquet`, a row a sample."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def collections(self) -> Mapping[str, Mapping[str, Any]]:
        """The STAC collections, by name of the subset: licence, citation, bands, classes."""
        said = json.loads((self.table.schema.metadata or {})[b"stac-geoparquet"])
        return dict(said["collections"])

    def classes(self, subset: str) -> list[str]:
        """Names of the classes of a subset, by index; 255 is no label."""
        found = self.collections[subset]["item_assets"]["label"]["classification:classes"]
        return [str(entry["name"]) for entry in found if not entry.get("nodata")]

    def items(self) -> Any:
        """The table as a GeoDataFrame, less links and assets: to filter, and to give to `samples`."""
        import geopandas
        import shapely

        table = self.table.drop_columns([n for n in _BULKY if n in self.table.column_names])
        frame = table.drop_columns(["geometry"]).to_pandas()
        places = shapely.from_wkb(self.table["geometry"].to_numpy(zero_copy_only=False))
        return geopandas.GeoDataFrame(frame, geometry=places, crs="EPSG:4326")

    def samples(self, chosen: Any = None, *, threads: int = 8) -> Iterator[Decoded]:
        """Samples as arrays, in the order asked for.

        Args:
            chosen: A data frame with a column `id`, ids, or an expression of `pyarrow.compute` on
                the columns of the table; None: all.
            threads: How many are read at a time.

        Raises:
            InputError: An id that there is not; a sample that cannot be read or is another one.
        """
        rows = self.rows(chosen)
        fetch = fetcher(f"{self.url}/shards")
        places = {name: self._places(name) for name in MEMBERS}
        with ThreadPoolExecutor(threads, "samples") as pool:
            waiting: deque[Future[Decoded]] = deque()
            try:
                for row in rows.tolist():
                    waiting.append(pool.submit(self._sample, row, places, fetch))
                    if len(waiting) > 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for job in waiting:
                    job.cancel()

    def rows(self, chosen: Any) -> NDArray[np.int64]:
        """Rows of the table that are chosen, see `samples`."""
        if chosen is None:
            return np.arange(len(self.table))
        if isinstance(chosen, pc.Expression):
            numbered = self.table.append_column("row", pa.array(np.arange(len(self.table))))
            return np.asarray(numbered.filter(chosen)["row"].to_numpy())
        ids = chosen["id"] if hasattr(chosen, "columns") else chosen
        wanted = pa.array(_listed(ids), pa.string())
        found = pc.index_in(wanted, value_set=self.table["id"].combine_chunks())
        if found.null_count:
            missing = wanted.filter(pc.is_null(found))[0].as_py()
            raise InputError(self.url, "id", missing, f"one of the {len(self)} in {TABLE}")
        return np.asarray(found.to_numpy(), np.int64)

    def _places(self, member: str) -> NDArray[np.int64]:
        """(n, 2) of offset and length of a member."""
        asset = self.table["assets"].combine_chunks().field(_NAMES[member])
        return np.column_stack([asset.field(f"las:{k}").to_numpy() for k in ("offset", "length")])

    def _sample(self, row: int, places: Mapping[str, NDArray[np.int64]], fetch: Fetch) -> Decoded:
        shard, name = (self.table[key][row].as_py() for key in ("las:shard", "id"))
        check_names(Path(TABLE), shard, name)
        here = {member: place[row].tolist() for member, place in places.items()}
        start = min(offset for offset, _ in here.values())
        stop = max(offset + length for offset, length in here.values())
        try:
            data = bytes(fetch(shard, 0, start, stop - start))
            found = decode({m: data[at - start : at - start + n] for m, (at, n) in here.items()})
        except (OSError, ValueError, KeyError) as error:
            raise WorkspaceError(
                f"{self.url}/shards/{shard}", name, str(error) or type(error).__name__,
                "a sample that is whole", "Publish again, or fetch the shard again.",
            ) from error  # fmt: skip
        if f"{found.metadata['subset']}-{found.metadata['key']}" != name:
            raise WorkspaceError(
                f"{self.url}/shards/{shard}", name, found.metadata["key"],
                "the sample of the table", "The shard is of another packing: publish again.",
            )  # fmt: skip
        return found


def open_corpus(url: str | Any) -> OpenCorpus:
    """A corpus that `las publish` has described.

    Args:
        url: Of its folder, of the catalogue in it or of `items.parquet`: a path, an http(s) URL,
            or any URL that fsspec knows.

    Raises:
        InputError: There is none.
    """
    root = str(url).rstrip("/")
    for end in ("/catalog/catalog.json", "/catalog/items.parquet", "/catalog"):
        root = root.removesuffix(end)
    try:
        data = _whole(f"{root}/{TABLE}")
        table = pq.read_table(io.BytesIO(data))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise InputError(
            root, TABLE, str(error) or type(error).__name__, "a corpus that was published",
            "Run `las publish`, or give the folder that holds `catalog/`.",
        ) from error  # fmt: skip
    missing = {"id", "assets", "las:shard"} - set(table.column_names)
    if missing:
        raise InputError(root, TABLE, f"no column {min(missing)}", "a table of `las publish`")
    return OpenCorpus(root, table)


def _whole(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
        return bytes(files.cat_file(path))
    import requests

    answer = requests.get(url, timeout=(10, 300))
    if answer.status_code != 200:
        raise ValueError(f"HTTP {answer.status_code}")
    return answer.content


def _listed(ids: Iterable[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else [str(one) for one in ids]
