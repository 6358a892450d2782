"""`las export`: a published corpus in another form."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from las_builder.errors import InputError
from las_builder.publish.corpus import open_corpus
from las_builder.publish.lmdb import IMAGES, LABELS, prefix
from las_builder.publish.lmdb import export as write_lmdb


def export(url: str, folder: Path, *, subset: str | None, split: str | None) -> str:
    """Write the samples of one subset as LMDB.

    Returns:
        A line: folder, keys and number of samples.

    Raises:
        InputError: No such corpus, subset or sample; the folder is there already.
    """
    corpus = open_corpus(url)
    there = sorted(corpus.collections)
    name = subset or (there[0] if len(there) == 1 else "")
    if name not in there:
        raise InputError(url, "--subset", subset, f"one of {', '.join(there)}")
    chosen = pc.field("collection") == name
    if split is not None:
        chosen &= pc.field("las:split") == split
    rows = corpus.table.take(corpus.rows(chosen))
    if not len(rows):
        raise InputError(url, "--split", split, f"a split that {name} has samples in")
    (summary,) = [corpus.collections[name]["summaries"]]
    products = [product["name"] for product in summary["las:products"]]
    label = prefix(products[0], LABELS, "label") if len(products) == 1 else "label"
    image = prefix(corpus.collections[name]["las:imagery"], IMAGES, "image")
    count = write_lmdb(folder, corpus.samples(rows["id"].to_pylist()), image=image, label=label)
    return f"{folder}: {count} samples, {image}_0 and {label}_0 to {image}_{count - 1} and {label}_{count - 1}"
