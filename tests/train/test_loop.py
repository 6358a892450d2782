"""The loop: it learns, it can be killed, and it stops with what there is to know."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_kit import Fields, quick

from las_builder.errors import CheckpointError, InputError, TrainingError
from las_builder.models import checkpoint
from las_builder.models.config import sized
from las_builder.models.segmenter import LandSegmenter
from las_builder.models.text import NameHash, Prompter
from las_builder.train import state
from las_builder.train.augment import Name, asked
from las_builder.train.config import read_config
from las_builder.train.data import assemble
from las_builder.train.loop import learning_rate, look, train, trained_on

SUBSETS = (
    Fields(name="a", seed=1),
    Fields(name="b", seed=2, wavelengths=(0.56, 0.842), level="toa", counts=(50, 3)),
)


def weights(file: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.load(file).items() if k != "progress"}


def test_it_learns_and_beats_its_labels(folder, ontology, prompter) -> None:
    source = Fields(wrong=0.4, counts=(64, 8))
    config = quick(
        steps=120,
        lr=1e-2,
        look_every=120,
        save_every=120,
        drop_bands=0,
        scale=(1, 1),
        drop_classes=0,
        merge_classes=0,
    )
    final = train([source], ontology, config, folder, prompter=prompter)
    model = checkpoint.load(final).eval()
    text = prompter([one.names for one in source.classes])
    right = labels_right = 0.0
    for i in range(8):
        patch, truth = source.read("val", i), source.truth("val", i)
        with torch.inference_mode():
            said = model(torch.from_numpy(patch.image)[None], source.wavelengths, text, "surface")
        right += (said[0].argmax(dim=0).numpy() == truth).mean() / 8
        labels_right += (patch.label == truth).mean() / 8
    assert labels_right < 0.8
    assert right > 0.95
    curve = state.load(folder / "last.safetensors")["progress"]["curve"]
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_is_undisturbed(
    folder, tmp_path, ontology, prompter, workers: int
) -> None:
    config = quick(
        deterministic=True, accumulate=2, batch=2, drop_classes=0.2, merge_classes=0.3, log_every=3
    )  # fmt: skip
    try:
        whole = train(SUBSETS, ontology, config, folder, prompter=prompter)
        other = tmp_path / "other"
        config = config.model_copy(update={"workers": workers})
        # Stopped without being asked, in the middle of a stretch of the curve: the state of the
        # last save is what there is.
        with pytest.raises(KeyboardInterrupt):
            train(SUBSETS, ontology, config, other, prompter=prompter, told=killer(6))
        assert state.load(other / "last.safetensors")["progress"]["step"] == 4
        again = train(SUBSETS, ontology, config, other, prompter=prompter)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    a, b = weights(folder / "last.safetensors"), weights(other / "last.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    one, two = (state.load(f / "last.safetensors")["progress"] for f in (folder, other))
    assert one == two
    x, y = checkpoint.read(whole), checkpoint.read(again)
    assert all(torch.equal(x[k], y[k]) for k in x)


def killer(step: int):
    def told(line: str) -> None:
        if (
            line.startswith("step ")
            and int(line.split()[1].split("/", maxsplit=1)[0].rstrip(",")) >= step
        ):
            raise KeyboardInterrupt

    return told


def test_a_run_that_is_asked_to_stop_goes_on(folder, ontology, prompter) -> None:
    last = train(SUBSETS, ontology, quick(), folder, prompter=prompter, until=5)
    assert last.name == "last.safetensors"
    assert state.load(last)["progress"]["step"] == 5
    final = train(SUBSETS, ontology, quick(), folder, prompter=prompter)
    assert final.name == "final.safetensors"
    assert checkpoint.describe(final)[1]["step"] == "12"


def test_two_batches_are_one_of_twice_the_size(folder, tmp_path, ontology, prompter) -> None:
    large = quick(batch=4, accumulate=1, steps=3, warmup=0, save_every=3)
    small = quick(batch=2, accumulate=2, steps=3, warmup=0, save_every=3)
    train(SUBSETS, ontology, large, folder, prompter=prompter)
    train(SUBSETS, ontology, small, tmp_path / "b", prompter=prompter)
    a, b = (
        np.array([p["loss"] for p in state.load(f / "last.safetensors")["progress"]["curve"]])
        for f in (folder, tmp_path / "b")
    )
    np.testing.assert_allclose(a, b, rtol=1e-4)


WORKER = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from train_kit import Fields, quick
from las_builder.catalogs import Catalogs
from las_builder.models.text import OntologyText, Prompter
from las_builder.train.loop import train
from pathlib import Path
sources = [Fields(name="a", seed=1), Fields(name="b", seed=2, counts=(50, 3))]
train(sources, Catalogs.load().ontology, quick(batch=2, steps=4, save_every=4), Path({folder!r}),
      prompter=Prompter(OntologyText()))
"""


def test_two_processes_are_one_with_twice_the_batches(folder, tmp_path, ontology, prompter) -> None:
    tests = Path(__file__).parents[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = WORKER.format(tests=str(tests), folder=str(tmp_path / "two"))
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common["PYTHONPATH"] = os.pathsep.join([str(tests.parent), *sys.path])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in running:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said.decode()[-2000:]
    sources = [Fields(name="a", seed=1), Fields(name="b", seed=2, counts=(50, 3))]
    alone = quick(batch=2, accumulate=2, steps=4, save_every=4)
    train(sources, ontology, alone, folder, prompter=prompter)
    a, b = weights(folder / "last.safetensors"), weights(tmp_path / "two" / "last.safetensors")
    for key, value in a.items():
        if key.startswith("model."):
            torch.testing.assert_close(b[key], value, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_and_names_its_samples(folder, ontology, prompter) -> None:
    source = Fields(spoilt="train-13")
    with pytest.raises(TrainingError) as caught:
        train([source], ontology, quick(save_every=1), folder, prompter=prompter)
    said = str(caught.value)
    assert "train-13" in said
    assert "last.safetensors" in said
    kept = state.load(folder / "last.safetensors")
    step = kept["progress"]["step"]
    assert f"step {step + 1}:" in said
    assert all(torch.isfinite(v).all() for k, v in kept.items() if k != "progress")


def test_a_folder_of_another_run_is_refused(folder, ontology, prompter) -> None:
    train(SUBSETS, ontology, quick(), folder, prompter=prompter, until=4)
    with pytest.raises(CheckpointError, match=r"`lr` is 0\.1; allowed: 0\.003, which"):
        train(SUBSETS, ontology, quick(lr=0.1), folder, prompter=prompter)
    with pytest.raises(CheckpointError, match="`data`"):
        train(SUBSETS[:1], ontology, quick(), folder, prompter=prompter)
    (folder / "last.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="Remove the run's folder"):
        train(SUBSETS, ontology, quick(), folder, prompter=prompter)


def test_a_subset_without_samples_another_encoder_no_subset(folder, ontology, prompter) -> None:
    with pytest.raises(InputError, match="`train` is 0"):
        train([Fields(counts=(0, 3))], ontology, quick(), folder, prompter=prompter)
    twice = Fields(classes=(*SUBSETS[0].classes, Name(("Water",), ("water",))))
    with pytest.raises(InputError, match="'Water'; allowed: each name once"):
        train([twice], ontology, quick(), folder, prompter=prompter)
    with pytest.raises(InputError, match="at least one class name"):
        train([Fields(classes=())], ontology, quick(), folder, prompter=prompter)
    with pytest.raises(InputError, match="`subsets`"):
        train([], ontology, quick(), folder, prompter=prompter)
    with pytest.raises(InputError, match="`text` is 'names'; allowed: 'ontology'"):
        train(SUBSETS, ontology, quick(), folder, prompter=Prompter(NameHash()))
    assert not folder.exists()


def test_patches_of_different_bands_are_refused(ontology) -> None:
    a, b = SUBSETS[0].read("train", 0), SUBSETS[1].read("train", 1)
    asks = asked(quick(drop_bands=0), 0, 3, SUBSETS[0].classes, ontology)
    with pytest.raises(InputError, match=r"train-1: \(2, 32, 32\).*of train-0: \(3, 32, 32\)"):
        assemble(SUBSETS[0], 0, asks, [a, b])


def test_what_it_leaves_behind(folder, ontology, prompter) -> None:
    said: list[str] = []
    train(SUBSETS, ontology, quick(), folder, prompter=prompter, told=said.append)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 1 + 4 * (3 + 3)  # curves; four panels of each patch
    assert "tree cover" in page
    progress = state.load(folder / "last.safetensors")["progress"]
    assert [p["step"] for p in progress["curve"]] == [2, 4, 6, 8, 10, 12]
    assert [p["step"] for p in progress["looks"]] == [6, 12]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "events")).Reload()
    got = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert got == [(p["step"], pytest.approx(p["loss"])) for p in progress["curve"]]
    best = checkpoint.describe(folder / "best.safetensors")[1]
    assert float(best["agreement"]) == pytest.approx(progress["best"], abs=1e-6)
    assert any("agreement with the labels of val" in line for line in said)
    record = json.loads(best["trained_on"])
    assert record["subsets"] == ["a", "b"]
    assert record["products"] == ["drawn-by-hand"]
    assert record["classes"] == [  # of both, once
        {"names": ["water", "lake"], "nodes": ["water"]},
        {"names": ["tree cover", "forest"], "nodes": ["tree"]},
        {"names": ["bare ground"], "nodes": ["bare"]},
    ]


def test_what_its_weights_were_trained_on_before_stays_known(folder, ontology, prompter) -> None:
    car = {"names": ["car"], "nodes": []}
    before = {"subsets": ["las-hr-x", "a"], "products": ["potsdam"], "classes": [car]}
    train(SUBSETS, ontology, quick(), folder, prompter=prompter, before=before, until=8)
    final = train(SUBSETS, ontology, quick(), folder, prompter=prompter)  # it goes on
    record = checkpoint.record_of(checkpoint.describe(final)[1])
    assert record is not None
    assert record["subsets"] == ["las-hr-x", "a", "b"]
    assert record["products"] == ["potsdam", "drawn-by-hand"]
    assert record["classes"][0] == car
    assert len(record["classes"]) == 4
    assert "images" not in record  # what was there before did not say
    toa = {"level": "toa", "wavelengths": [1.61]}
    record = json.loads(trained_on(SUBSETS, {**before, "images": [toa]}))
    assert record["images"] == [toa, *json.loads(trained_on(SUBSETS))["images"]]
    unknown = train(
        SUBSETS, ontology, quick(steps=6), folder / "b", prompter=prompter, before=None
    )  # half a record would be a wrong one
    assert checkpoint.record_of(checkpoint.describe(unknown)[1]) is None


def test_a_look_is_one_matrix_over_the_set(prompter) -> None:
    torch.manual_seed(0)
    model = LandSegmenter(quick().of_model()).eval()
    source = Fields(counts=(4, 5))
    seen = look(model, [source], prompter, quick(look_samples=5), torch.device("cpu"), bf16=False)
    text = prompter([one.names for one in source.classes])
    truth, said = [], []
    for i in range(5):
        patch = source.read("val", i)
        with torch.inference_mode():
            logits = model(torch.from_numpy(patch.image)[None], source.wavelengths, text, "surface")
        truth.append(patch.label)
        said.append(logits[0].argmax(dim=0).numpy())
    t, s = np.stack(truth), np.stack(said)
    iou = [((t == k) & (s == k)).sum() / ((t == k) | (s == k)).sum() for k in range(3)]
    assert seen["fields"]["agreement"] == pytest.approx(np.mean(iou))
    assert seen["fields"]["overall"] == pytest.approx((t == s).mean())


def test_learning_rate() -> None:
    config = quick(lr=0.1, warmup=10, steps=110, lr_end=0.01)
    assert learning_rate(0, config) == pytest.approx(0.01)
    assert learning_rate(9, config) == pytest.approx(0.1)
    assert learning_rate(60, config) == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert learning_rate(110, config) == pytest.approx(0.001)


def test_settings_from_a_file_words_and_names(tmp_path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("size: nano\nlr: 0.01\nmodel: {zoom: 1, hiera: {embed: 16}}\nsteps: 9\n")
    config = read_config(file, ["lr=0.02", "scale=[1, 1]"], steps=5, seed=None)
    assert (config.lr, config.steps, config.seed, config.scale) == (0.02, 5, 0, (1.0, 1.0))
    model = config.of_model()
    assert (model.zoom, model.hiera.embed) == (1, 16)
    assert model.hiera.blocks == sized("nano").hiera.blocks
    for words, key in ((["learning=1"], "learning"), (["lr=-1"], "lr"), (["lr"], "--set")):
        with pytest.raises(InputError, match=f"`{key}`"):
            read_config(file, words)
    with pytest.raises(InputError, match="zom"):
        read_config(None, ["size=nano", "model={zom: 1}"]).of_model()
    assert json.loads(json.dumps(config.deciding()))["lr"] == 0.02
