"""Words of the command line that say where a model runs and what it begins with."""

from __future__ import annotations

import pytest
import torch

from las_builder.errors import InputError
from las_builder.train.start import best_device, parse_init


def test_devices_that_are_here_and_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert best_device("auto") == best_device("cpu") == "cpu"
    for name in ("cuda", "cuda:0", "nosuch", ""):
        with pytest.raises(InputError, match=r"`--device`.*allowed: auto, cpu$"):
            best_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert best_device("auto") == "cuda"
    assert [best_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(InputError, match="allowed: auto, cpu, cuda, cuda:0, cuda:1"):
        best_device("cuda:2")


def test_towers() -> None:
    assert parse_init(["sam2=a.pt", "georsclip=b=c.pt"]) == {"sam2": "a.pt", "georsclip": "b=c.pt"}
    for words, towers in ((["sam3=x"], ["sam2"]), (["sam2="], ["sam2"]), (["sam2=x"], ["dofa"])):
        with pytest.raises(InputError, match=f"allowed: {towers[0]}=PATH"):
            parse_init(words, towers)
