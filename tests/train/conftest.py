"""One thread: small tensors gain nothing from more, and sums come out the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from las_builder.catalogs import Catalogs, Ontology
from las_builder.models.text import OntologyText, Prompter


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ontology() -> Ontology:
    return Catalogs.load().ontology


@pytest.fixture(scope="session")
def prompter() -> Prompter:
    return Prompter(OntologyText())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
