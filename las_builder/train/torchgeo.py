"""A published corpus as a data set of PyTorch, with samples as torchgeo has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from las_builder.errors import InputError
from las_builder.pack import reflectance
from las_builder.publish.corpus import OpenCorpus


class CorpusDataset(Dataset[dict[str, Any]]):
    """Samples of one subset, in the keys and types of torchgeo's `NonGeoDataset`.

    `image` is float32 (band, y, x) of physical values, `mask` int64 (y, x) of class indices with
    255 = ignore, which is also what unseen pixels have unless `unseen` is False; `bounds` is west,
    south, east, north in `crs`. Transforms take and give such a dict.
    """

    def __init__(
        self, corpus: OpenCorpus, chosen: Any = None, *, transforms: Any = None, unseen: bool = True
    ) -> None:
        """Of samples that are chosen as `OpenCorpus.samples` does.

        Raises:
            InputError: They are of several subsets.
        """
        self.corpus, self.transforms, self.unseen = corpus, transforms, unseen
        rows = corpus.rows(chosen)
        self.ids: list[str] = corpus.table["id"].take(rows).to_pylist()
        subsets = sorted(set(corpus.table["collection"].take(rows).to_pylist()))
        if len(subsets) != 1:
            raise InputError(corpus.url, "chosen", ", ".join(subsets), "samples of one subset")
        self.classes = corpus.classes(subsets[0])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (one,) = self.corpus.samples([self.ids[index]], threads=1)
        label = one.label.astype(np.int64)
        if self.unseen:
            label[~one.valid] = 255
        sample = {
            "image": torch.from_numpy(reflectance(one)),
            "mask": torch.from_numpy(label),
            "crs": one.grid.crs,
            "bounds": one.grid.bounds,
            "key": one.metadata["key"],
        }
        return sample if self.transforms is None else self.transforms(sample)
