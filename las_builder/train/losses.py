"""Losses per pixel and per class, weighted by what is known of the labels.

Every loss is a sum over samples divided by a number that does not depend on their labels, so a
batch cut into parts, or spread over devices, has the same gradient as the whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from las_builder.core.types import IGNORE


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy, over all pixels, ignored ones counting as 0.

    Args:
        logits: (sample, class, y, x).
        label: (sample, y, x), 255 = ignore.
        weight: (sample, y, x).
    """
    each = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    return (each * weight).mean()


def generalised_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q of the probability of the label: cross-entropy as q goes to 0, mean absolute
    error at 1. Labels that the model finds unlikely pull less than in cross-entropy.

    Zhang and Sabuncu, NeurIPS 2018, arXiv 1805.07836.

    Args:
        logits: (sample, class, y, x).
        label: (sample, y, x), 255 = ignore.
        weight: (sample, y, x).
        q: In (0, 1].
    """
    each = -F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    return (-torch.expm1(q * each) / q * weight).mean()


def dice(logits: Tensor, label: Tensor, weight: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - Dice of each class that a sample holds, averaged over these, then over samples.

    Milletari et al., 3DV 2016, with sums in place of squares; classes that are not there are left
    out, as segmentation libraries do.

    Args:
        logits: (sample, class, y, x).
        label: (sample, y, x), 255 = ignore.
        weight: (sample, y, x), of pixels in every sum.
        smooth: Added to both sides of the fraction.
    """
    p = logits.float().softmax(dim=1)
    known = label != IGNORE
    true = F.one_hot(torch.where(known, label, 0), logits.shape[1]).movedim(-1, 1)
    counted = (weight * known)[:, None]
    both, said, is_ = ((x * counted).sum(dim=(2, 3)) for x in (p * true, p, true.to(p.dtype)))
    lost = 1 - (2 * both + smooth) / (said + is_ + smooth)
    there = (is_ > 0).to(p.dtype)
    return ((lost * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)).mean()
