"""One thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from las_builder.models.config import HieraConfig, ModelConfig, sized


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    """A model of milliseconds, without a spectral encoder."""
    return replace(
        sized("nano"), zoom=1, width=32, decoder_hidden=32, spectral=None,
        hiera=HieraConfig(embed=8, heads=1, blocks=(1, 1, 2, 1), global_blocks=(3,)),
    )  # fmt: skip
