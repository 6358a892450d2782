"""The vision-text decoder: two-way attention between class tokens and the image, then masks.

Layers and names follow SAM2's mask decoder (Ravi et al., arXiv 2408.00714), so that its weights can
be taken over; the class tokens take the place of its mask tokens, and one head serves them all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_builder.models.frequency import LayerNorm2d
from las_builder.models.hiera import sine_positions


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        sizes: Of the input, the hidden layers and the output.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., sizes[0]) to (..., sizes[-1])."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


class TwoWayBlock(nn.Module):
    """Classes among themselves, classes to image, classes alone, image to classes.

    With `independent` the first and the last step are left out: then nothing that is said of a
    class depends on the others.
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, *, first: bool, independent: bool
    ) -> None:
        super().__init__()
        self.first, self.independent = first, independent
        if not independent:
            self.self_attn = _Attention(dim, heads, dim)
            self.norm1 = nn.LayerNorm(dim)
            self.norm4 = nn.LayerNorm(dim)
            self.cross_attn_image_to_token = _Attention(dim, heads, dim // 2)
        self.cross_attn_token_to_image = _Attention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden, dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, image: Tensor, at: Tensor, names: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens (batch, class, dim), image (batch, pixel, dim), its positions, the tokens' names."""
        if not self.independent:
            if self.first:
                tokens = self.self_attn(tokens, tokens, tokens)
            else:
                q = tokens + names
                tokens = tokens + self.self_attn(q, q, tokens)
            tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image(tokens + names, image + at, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        if not self.independent:
            image = image + self.cross_attn_image_to_token(image + at, tokens + names, tokens)
            image = self.norm4(image)
        return tokens, image


class TwoWayTransformer(nn.Module):
    """SAM2's, over class tokens.

    Args:
        dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        hidden: Width of the blocks' MLP.
        independent: Classes do not see each other.
    """

    def __init__(self, dim: int, depth: int, heads: int, hidden: int, *, independent: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, heads, hidden, first=i == 0, independent=independent)
            for i in range(depth)
        )
        self.final_attn_token_to_image = _Attention(dim, heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, at: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
        """Updated tokens (batch, class, dim) and image (batch, pixel, dim)."""
        tokens = names
        for layer in self.layers:
            tokens, image = layer(tokens, image, at, names)
        seen = self.final_attn_token_to_image(tokens + names, image + at, image)
        return self.norm_final_attn(tokens + seen), image


class Decoder(nn.Module):
    """Class vectors and the feature pyramid to one map of logits a class.

    Args:
        text_dim: Length of the class vectors.
        dim: Channels of the pyramid, a multiple of 8.
        depth: Two-way blocks.
        heads: Their heads.
        hidden: Width of their MLP.
        independent: Classes do not see each other.
    """

    def __init__(
        self, text_dim: int, dim: int, depth: int, heads: int, hidden: int, *, independent: bool
    ) -> None:
        super().__init__()
        self.channels = dim // 8
        # The norm makes tokens of any encoder alike in size (ours).
        self.text = nn.Sequential(nn.Linear(text_dim, dim), nn.LayerNorm(dim))
        self.transformer = TwoWayTransformer(dim, depth, heads, hidden, independent=independent)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(dim, dim // 8, 1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, 1)
        self.head = Mlp(dim, dim, dim, dim // 8)
        # SAM2's blocks have no way around their first attention. With weights that have learnt
        # nothing it makes all classes alike, so that a class is given its name once more (ours).
        self.keep = nn.Parameter(torch.ones(()))
        seeded = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", torch.randn(2, dim // 2, generator=seeded))

    def forward(
        self, pyramid: tuple[Tensor, Tensor, Tensor], text: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the logits are the inner product of.

        Args:
            pyramid: (batch, dim, y, x) at strides 4, 8 and 16.
            text: (class, text_dim), each of length 1.

        Returns:
            (batch, class, dim / 8) of the classes and (batch, dim / 8, y, x) of the image at
            stride 4.
        """
        tokens, image = self.attend(pyramid[2], text)
        return self.head(tokens), self.enlarge(pyramid, image)

    def enlarge(self, pyramid: tuple[Tensor, Tensor, Tensor], image: Tensor) -> Tensor:
        """(batch, dim / 8, y, x) at stride 4, from the pyramid and `attend`'s image."""
        first, second, _ = pyramid
        up1, norm, act1, up2, act2 = self.output_upscaling
        image = act1(norm(up1(image) + self.conv_s1(second)))
        enlarged: Tensor = act2(up2(image) + self.conv_s0(first))
        return enlarged

    def attend(self, third: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Classes and image after they have seen each other.

        Args:
            third: (batch, dim, y, x) at stride 16.
            text: (class, text_dim), each of length 1.

        Returns:
            (batch, class, dim) for the head and (batch, dim, y, x).
        """
        batch, _, height, width = third.shape
        at = sine_positions(height, width, self.frequencies).to(third.dtype)
        names = self.text(text).expand(batch, -1, -1)
        tokens, image = self.transformer(third.flatten(2).transpose(1, 2), at, names)
        return tokens + self.keep * names, image.transpose(1, 2).unflatten(2, (height, width))


def from_sam2(tensors: Mapping[str, Tensor], *, independent: bool) -> dict[str, Tensor]:
    """The decoder out of an official SAM2 state dict, under our names; all but `text`.

    The head is that of SAM2's first mask token.
    """
    out = {}
    for key, value in tensors.items():
        name = key.removeprefix("sam_mask_decoder.")
        if key == "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix":
            out["frequencies"] = value
        elif name.startswith(("transformer.", "output_upscaling.", "conv_s0.", "conv_s1.")):
            left_out = re.search(r"\.(self_attn|norm1|norm4|cross_attn_image_to_token)\.", name)
            if not (independent and left_out):
                out[name] = value
        elif name.startswith("output_hypernetworks_mlps.0."):
            out[name.replace("output_hypernetworks_mlps.0.", "head.")] = value
    return out
