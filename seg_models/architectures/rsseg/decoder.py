"""RSSeg's decoder (Hong et al., 2022): spatially adaptive separation (3.4) and discriminative cross-attention (3.5).

No code was published. Where the text is silent, the choices are the ones that give the parameters and multiply-accumulates
of Table 4: one decoder layer without self-attention, and three D x D projections around it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.losses import IGNORE

FILTER_NORMS = ("softmax", "filter_norm")
CROSS_ATTENTIONS = ("discriminative", "unnormalized", "vanilla")


class FilterNorm(nn.Module):
    """Table 5, "Filter Norm" (Zhou et al., 2021): filters get mean and deviation that are learnt, instead of a softmax.

    They start with the mean of a softmax's weights, 1 / taps, and the deviation of He's rule for as many taps.

    Args:
        taps: of a filter.
    """

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.deviation = nn.Parameter(torch.tensor((2.0 / taps) ** 0.5))
        self.mean = nn.Parameter(torch.tensor(1.0 / taps))

    def forward(self, filters: Tensor, dim: int) -> Tensor:
        """Filters whose taps lie along `dim` -> the same shape."""
        centred = filters - filters.mean(dim=dim, keepdim=True)
        # The small constant keeps even filters, whose deviation is zero, finite.
        scale = (centred.square().mean(dim=dim, keepdim=True) + 1e-10).rsqrt()
        return self.deviation * centred * scale + self.mean


class SpatiallyAdaptiveSeparation(nn.Module):
    """SASM, eq. 10 and 11: local features become filters that double the resolution of deep ones.

    Args:
        width: D, channels of the deep features.
        guide_width: channels of the local features.
        groups: G, groups of channels with filters of their own (Table 3: 12, for L 16).
        guide_is_twice_as_large: the guide has twice the resolution; a depth-wise 2x2 convolution halves it first.
        norm: "softmax" (eq. 10) or "filter_norm" (Table 5).

    Raises:
        ValueError: the groups do not divide the width, or an unknown norm.
    """

    def __init__(
        self, width: int, guide_width: int, groups: int, guide_is_twice_as_large: bool, norm: str = "softmax"
    ) -> None:
        super().__init__()
        if norm not in FILTER_NORMS:
            raise ValueError(f"filter_norm is {norm!r}; expected one of {', '.join(FILTER_NORMS)}")
        if groups < 1 or width % groups:
            raise ValueError(f"width {width} must be a multiple of the {groups} groups")
        self.groups = groups
        self.halve = (
            nn.Conv2d(guide_width, guide_width, 2, stride=2, groups=guide_width)
            if guide_is_twice_as_large
            else nn.Identity()
        )
        self.filters = nn.Conv2d(guide_width, groups * 4 * 9, 1)
        self.filter_norm = FilterNorm(9) if norm == "filter_norm" else None

    def spatial_filters(self, guide: Tensor) -> Tensor:
        """Eq. 10: guide (B, D_l, h, w) -> SAF (B, G, 4, 9, h, w), positive and with a sum of one over the 9 taps."""
        filters = self.filters(self.halve(guide)).unflatten(1, (self.groups, 4, 9))
        return filters.softmax(dim=3) if self.filter_norm is None else self.filter_norm(filters, dim=3)

    def forward(self, deep: Tensor, guide: Tensor) -> Tensor:
        """Eq. 11: deep (B, D, h, w), guide (B, D_l, h, w) or twice as large -> (B, D, 2h, 2w)."""
        filters = self.spatial_filters(guide)  # (B, G, 4, 9, h, w)
        height, width = deep.shape[-2:]
        # Beyond the border the nearest value stands, so that filters that sum to one leave an even map even.
        padded = F.pad(deep, (1, 1, 1, 1), mode="replicate").unflatten(1, (self.groups, -1))  # (B, G, D/G, h+2, w+2)
        total = None
        for tap in range(9):  # a sum over the taps, instead of nine copies of the map in memory
            top, left = divmod(tap, 3)
            neighbour = padded[..., top : top + height, left : left + width].unsqueeze(3)  # (B, G, D/G, 1, h, w)
            term = neighbour * filters[:, :, None, :, tap]  # (B, G, D/G, 4, h, w)
            total = term if total is None else total + term
        assert total is not None
        return F.pixel_shuffle(total.flatten(1, 3), 2)


class CrossAttention(NamedTuple):
    """What the discriminative cross-attention returns.

    Attributes:
        out: (B, K, D).
        queries: Q_norm (B, K, D), as they are where they are not normalised.
        keys: K_norm (B, N, D), the same.
    """

    out: Tensor
    queries: Tensor
    keys: Tensor


class DiscriminativeCrossAttention(nn.Module):
    """DCA, eq. 12: cross-attention of L2-normalised queries and keys with a learnt scale, one head of all D channels.

    Args:
        width: D.
        form: "discriminative" (eq. 12, 1/s from 10 on); "unnormalized" (Table 6, "w/o L2 normalization": the same without
            the norms, 1/s from 1/sqrt(D) on, where plain attention has it); "vanilla" (Table 4, the rows before: plain
            attention, scaled by 1/sqrt(D) for good).

    Raises:
        ValueError: an unknown form.
    """

    def __init__(self, width: int, form: str = "discriminative") -> None:
        super().__init__()
        if form not in CROSS_ATTENTIONS:
            raise ValueError(f"cross_attention is {form!r}; expected one of {', '.join(CROSS_ATTENTIONS)}")
        self.inverse_scale: Tensor
        self.normalizes = form == "discriminative"
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        scale = torch.tensor(10.0 if self.normalizes else width**-0.5)  # 1/s, 3.5
        if form == "vanilla":
            self.register_buffer("inverse_scale", scale, persistent=False)
        else:
            self.inverse_scale = nn.Parameter(scale)

    def forward(self, queries: Tensor, patches: Tensor) -> CrossAttention:
        """Queries (B, K, D), patches (B, N, D)."""
        q, k = self.query(queries), self.key(patches)  # (B, K, D), (B, N, D)
        if self.normalizes:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(1, 2) * self.inverse_scale).softmax(dim=-1)  # (B, K, N)
        return CrossAttention(self.out(weights @ self.value(patches)), q, k)


class MaskEmbeddings(NamedTuple):
    """What the decoder layer returns.

    Attributes:
        embeddings: (B, K, D), one a class.
        attention: of the layer, whose queries and keys the losses supervise.
    """

    embeddings: Tensor
    attention: CrossAttention


class RegionDecoder(nn.Module):
    """One transformer decoder layer: learnt class queries gather from the patches and become mask embeddings.

    Args:
        width: D.
        num_classes: K.
        cross_attention: see `DiscriminativeCrossAttention`.
    """

    def __init__(self, width: int, num_classes: int, cross_attention: str = "discriminative") -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, num_classes, width))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.query_norm, self.patch_norm, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = DiscriminativeCrossAttention(width, cross_attention)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.out_norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> MaskEmbeddings:
        """Patches (B, N, D)."""
        queries = self.queries.expand(patches.shape[0], -1, -1)  # (B, K, D)
        attention = self.attention(self.query_norm(queries), self.patch_norm(patches))
        x = queries + attention.out
        x = x + self.feed_forward(self.norm(x))
        return MaskEmbeddings(self.out_norm(x), attention)


def region_matching_losses(
    queries: Tensor, keys: Tensor, inverse_scale: Tensor, labels: Tensor, normalizes: bool = True
) -> tuple[Tensor, Tensor]:
    """The two auxiliary losses of 3.5.

    Args:
        queries: Q_norm (B, K, D), L2-normalised.
        keys: K_norm (B, N, D), L2-normalised.
        inverse_scale: 1/s, scalar.
        labels: int64 (B, N) in [0, K) or IGNORE, at the keys' resolution.
        normalizes: region embeddings are L2-normalised, as queries and keys are (eq. 14); False where those are not
            (Table 6): they are then the plain means of eq. 13.

    Returns:
        query-to-region and patch-to-region loss (eq. 14 and 15 under cross entropy), scalars. Classes that an image does
        not show are neither queries nor regions of that image. Without any labelled patch both are 0, with a gradient
        of 0.
    """
    count = queries.shape[1]
    queries, keys, inverse_scale = queries.float(), keys.float(), inverse_scale.float()
    known = labels != IGNORE  # (B, N)
    one_hot = F.one_hot(labels.where(known, 0), count) * known[..., None]  # GT, (B, N, K)
    present = one_hot.any(dim=1)  # (B, K)
    total = one_hot.to(keys.dtype).transpose(1, 2) @ keys  # eq. 13, (B, K, D)
    regions = F.normalize(total, dim=-1) if normalizes else total / one_hot.sum(1).clamp(min=1)[..., None]
    # A finite value: a row without any region would be nan under -inf, even where it does not count.
    absent = torch.zeros_like(present, dtype=keys.dtype).masked_fill(~present, -1e4)[:, None]  # (B, 1, K)

    to_region = queries @ regions.transpose(1, 2) * inverse_scale + absent  # eq. 14, (B, K, K)
    itself = torch.arange(count, device=labels.device).expand_as(present)  # (B, K)
    query_to_region = _mean_cross_entropy(to_region, itself.where(present, IGNORE_ROW))

    of_patches = keys @ regions.transpose(1, 2) * inverse_scale + absent  # eq. 15, (B, N, K)
    return query_to_region, _mean_cross_entropy(of_patches, labels.where(known, IGNORE_ROW))


IGNORE_ROW = -1  # not IGNORE: a class may have the number 255 among K rows


def _mean_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Scores (B, M, K), targets (B, M) -> mean over the rows that have one; 0 if none has."""
    total = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_ROW, reduction="sum")
    return total / (targets != IGNORE_ROW).sum().clamp(min=1)
