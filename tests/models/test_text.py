"""Class names to vectors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from las_builder.catalogs.loader import Catalogs
from las_builder.errors import CheckpointError, InputError, UnknownNameError
from las_builder.models import text
from las_builder.models.config import CLIPS, TEXT_DIMS, sized


@pytest.fixture(scope="module")
def ontology() -> text.OntologyText:
    return text.OntologyText()


class Counting:
    """An encoder that says what it was asked."""

    name = "names"
    dim = 3
    templates = ("{}", "a photo of {}")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts) -> Tensor:
        self.asked += texts
        rows = [[float(len(t)), float(t.count("a")), 1.0] for t in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def test_a_class_is_the_mean_over_its_names_and_templates() -> None:
    got = text.Prompter(Counting())([["water", "lake"], "tree"])
    of_water = Counting().encode(["water", "a photo of water", "lake", "a photo of lake"])
    want = of_water.mean(0) / of_water.mean(0).norm()
    torch.testing.assert_close(got[0], want)
    assert got.shape == (2, 3)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2))


def test_a_taxonomy_is_encoded_once() -> None:
    encoder = Counting()
    prompter = text.Prompter(encoder, ("{}",))
    for _ in range(3):
        prompter(["water", ["tree", "forest"]])
    assert encoder.asked == ["water", "tree", "forest"]
    prompter(["water"])
    assert encoder.asked[3:] == ["water"]


def test_drawing_gives_one_name_in_one_template() -> None:
    vectors = text.Prompter(Counting()).classes([["water", "lake"], "tree"])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([vectors.draw(generator) for _ in range(60)])
    for i, rows in enumerate(vectors.every):
        seen = {next(j for j, row in enumerate(rows) if torch.equal(row, d)) for d in drawn[:, i]}
        assert seen == set(range(len(rows)))
    again = vectors.draw(torch.Generator().manual_seed(0))
    assert torch.equal(again, drawn[0])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "at least one class name"),
        (["water", "tree", "Water "], r"`names` is 'Water '; .* It is 'water' again"),
        (["water", ""], "not empty"),
        (["water", []], "not empty"),
        ([["water", " "]], "not empty"),
    ],
)
def test_class_lists_that_cannot_be_are_one_line(classes, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        text.Prompter(Counting())(classes)
    assert "\n" not in str(caught.value)


def test_kin_in_the_ontology_are_near(ontology) -> None:
    def likeness(a: str, b: str) -> float:
        x, y = ontology.encode([a, b])
        return float(x @ y)

    kin = [("lake", "river"), ("broadleaved tree cover", "tree cover"), ("cropland", "crops"),
           ("mangroves", "wetland"), ("forest", "tree cover"), ("grassland", "meadow")]  # fmt: skip
    strangers = [("lake", "road"), ("tree cover", "snow and ice"), ("cropland", "water")]
    assert min(likeness(*p) for p in kin) > 0.3
    assert max(likeness(*p) for p in strangers) < 0.2


def test_what_names_mean(ontology) -> None:
    assert ontology.nodes("Lakes") == {"water.inland_permanent.lake"}
    assert ontology.nodes("permanent water bodies") == {"water"}
    assert ontology.nodes("tree cover") == {"tree"}
    assert ontology.nodes("herbaceous wetland and bare ground") == {"wetland.herbaceous", "bare"}
    assert ontology.nodes("quux") == frozenset()


def test_every_name_of_the_catalogue_is_known_and_told_apart(ontology) -> None:
    catalogs = Catalogs.load()
    for name in catalogs.names("taxonomies"):
        titles = [c.title for c in catalogs.taxonomy(name).classes]
        assert all(ontology.nodes(title) for title in titles)
        likeness = ontology.encode(titles) @ ontology.encode(titles).T
        assert (likeness - torch.eye(len(titles))).max() < 0.9


def test_names_outside_the_ontology_differ_and_spelling_does_not_matter(ontology) -> None:
    quux, quuxes, other = ontology.encode(["quux", "  Quuxs ", "zork"])
    assert torch.equal(quux, quuxes)
    assert quux @ other < 0.5
    torch.testing.assert_close(quux.norm(), torch.tensor(1.0))


def test_vectors_are_the_same_everywhere(ontology) -> None:
    """Signs come from SHAKE-256; what was computed once is what everybody computes."""
    digits = (ontology.encode(["lake", "quux"]) * 1e4).round().long()
    assert digits[0, :6].tolist() == [430, 430, -1291, -430, -430, 430]
    assert digits[1, 126:132].tolist() == [0, 0, -1084, -795, 795, 940]
    assert text.NameHash().encode(["lake"])[0, :4].tolist() == [-0.0625, -0.0625, 0.0625, -0.0625]


def test_names_alone_carry_no_meaning() -> None:
    vectors = text.NameHash().encode(["lake", "Lakes", "lake river", "river"])
    assert torch.equal(vectors[0], vectors[1])
    assert max(abs(vectors[0] @ vectors[i]) for i in (2, 3)) < 0.3


def test_encoders_by_name() -> None:
    assert text.encoder("ontology").dim == TEXT_DIMS["ontology"] == sized("nano").text_dim
    assert text.offline() in {"minilm", "ontology"}
    with pytest.raises(InputError, match="Give its checkpoint: --init georsclip=PATH"):
        text.encoder("georsclip-vit-b-32")
    with pytest.raises(InputError, match="allowed: georsclip"):
        text.encoder("bert")
    with pytest.raises(UnknownNameError, match="Did you mean 'nano'"):
        sized("nan")


def test_georsclip_comes_from_its_own_file(tmp_path, monkeypatch) -> None:
    small = replace(CLIPS["georsclip-vit-b-32"], text_width=64, text_layers=1, dim=16)
    monkeypatch.setattr(text, "CLIPS", {**CLIPS, small.size: small})
    torch.manual_seed(0)
    tower = text.ClipText(64, 1, 16, quick=True)
    torch.nn.init.normal_(tower.text_projection)
    whole = tower.state_dict() | {"visual.proj": torch.ones(3, 3), "logit_scale": torch.ones(())}
    file = tmp_path / "RS5M_ViT-B-32.pt"
    torch.save(whole, file)
    encoder = text.encoder("georsclip-vit-b-32", file)
    got = text.Prompter(encoder)(["water", "tree cover"])
    assert got.shape == (2, 16)
    with torch.inference_mode():
        want = tower(text.clip_tokens([t.format("water") for t in text.REMOTE_SENSING]))
    want = torch.nn.functional.normalize(want, dim=1).mean(0)
    torch.testing.assert_close(got[0], want / want.norm(), rtol=1e-4, atol=1e-5)

    whole["ln_final.weight"] = torch.ones(65)
    save_file(whole, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other.safetensors: `ln_final.weight` is \(65,\)"):
        text.encoder("georsclip-vit-b-32", tmp_path / "other.safetensors")
