"""Representation Separation for Semantic Segmentation with Vision Transformers (Hong et al., 2022) on plain ViTs.

    image --overlapped patch embedding, 1x1--> Xl_0 at half of the patch                (3.2.1)
    image --ViT or BEiT--> Xg_1 ... Xg_4 of sampled blocks, final tokens
    Xl_0, Xg_i --LSBs with AF--> outputs of the last two LSBs                           (3.3, rsseg_pathway.py)
    final tokens --SASM with the last LSB--> 1/8 --SASM with the one before--> 1/4      (3.4, rsseg_decoder.py)
    class queries --discriminative cross-attention on the 1/8 map--> mask embeddings    (3.5)
    mask embeddings . 1/4 map --bilinear--> class scores of each pixel

(1/8 and 1/4 are for patches of 16.) The pyramid form on CSWin is in rsseg_pyramid.py. No code was published. The text
leaves out where Table 4's three D x D projections stand: two of them make a perceptron on the final tokens, where
its multiply-accumulates fit the table, and one follows the mask embeddings. The product of patches and mask embeddings
is Segmenter's, which the paper builds on: cosine similarities with a LayerNorm over the classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.architectures.rsseg.decoder import RegionDecoder, SpatiallyAdaptiveSeparation, region_matching_losses
from seg_models.architectures.rsseg.pathway import LocalSeparationPath
from seg_models.backbones.vit import TokenBackbone, tokens_to_map
from seg_models.losses import IGNORE, cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop


class RSSeg(SegmentationModel):
    """The whole model on a plain ViT or BEiT. Input is a normalised image; `normalization` says how.

    Args:
        backbone: a ViT, DeiT or BEiT whose patch is a multiple of 4.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.
        sampled_blocks: blocks whose outputs guide the pathway, counted from 0; None takes Table 3's: 1, 3, 5, 7 of 12
            and 3, 7, 11, 15 of 24, that is every sixth of the depth up to two thirds of it.
        local_width: channels of the pathway; None takes Table 3's, 256 for B and 384 for L, up to a width of 768 a third
            of the width and above it three eighths.
        expand_ratio: of the local separation blocks (Table 3: 2).
        groups: of the SASMs; None gives 64 channels a group (Table 3: 12 for B, 16 for L).
        separations: number of SASMs, 2 in the paper; 1 is in Table 5. Without any (0; Table 4, "+ decoupled two-pathway
            network") the last LSB's output is projected and added to the upsampled deep map.
        matching_weights: of the query-to-region and the patch-to-region loss (eq. 16: 1 and 1). With a weight of 0 a loss
            is left out (Table 6).
        pathway: False leaves out the second pathway and with it the SASMs: decoder and masks are on the transformer's own
            grid (Table 4, "+ transformer decoder").
        cross_attention: "discriminative"; "unnormalized" (Table 6, "w/o L2 normalization"); "vanilla", without matching losses
            (Table 4, all rows before the last). See `DiscriminativeCrossAttention`.
        filter_norm: of the SASMs' filters, "softmax" or "filter_norm" (Table 5).
        local_operator: of the LSBs, "high_pass" or one of Table 8's; see `operators.py`.
        fusion: of the pathway, "attention" or "add" (Table 7, the rows without "AF").

    Raises:
        ValueError: a hybrid backbone, a patch, a block, a form or a number of groups that does not fit.
    """

    backbone: TokenBackbone

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        sampled_blocks: tuple[int, ...] | None = None,
        local_width: int | None = None,
        expand_ratio: int = 2,
        groups: int | None = None,
        separations: int = 2,
        matching_weights: tuple[float, float] = (1.0, 1.0),
        pathway: bool = True,
        cross_attention: str = "discriminative",
        filter_norm: str = "softmax",
        local_operator: str = "high_pass",
        fusion: str = "attention",
    ) -> None:
        super().__init__(num_classes, image_size)
        if backbone.is_hybrid or backbone.patch_size % 4:
            raise ValueError(
                f"{backbone.name} cannot carry the overlapped patch embedding; expected a plain transformer with a "
                f"patch that is a multiple of 4, found {'a hybrid' if backbone.is_hybrid else backbone.patch_size}"
            )
        if separations not in (0, 1, 2):
            raise ValueError(f"separations is {separations}; expected 0, 1 or 2")
        width, depth = backbone.width, backbone.depth
        if sampled_blocks is None:
            if depth % 6:
                raise ValueError(f"{backbone.name} has {depth} blocks, no multiple of 6; give sampled_blocks")
            sampled_blocks = tuple((i + 1) * depth // 6 - 1 for i in range(4))
        if local_width is None:
            local_width = width // 3 if width <= 768 else width * 3 // 8
        backbone.set_taps((*sampled_blocks, depth - 1))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.matching_weights = matching_weights
        self.has_pathway = pathway

        patch = backbone.patch_size
        self.key_stride = patch // 2 if pathway else patch
        self.separate = nn.ModuleList()
        if pathway:
            self.overlapped_embedding = nn.Conv2d(3, width, patch, stride=patch // 2, padding=patch // 4)
            self.copy_patch_embedding()
            self.reduce = nn.Conv2d(width, local_width, 1)
            widths = (width,) * len(sampled_blocks)
            self.path = LocalSeparationPath(local_width, widths, expand_ratio, local_operator, fusion)
            groups = max(width // 64, 1) if groups is None else groups
            self.separate.extend(
                SpatiallyAdaptiveSeparation(width, local_width, groups, i == 0, filter_norm) for i in range(separations)
            )
            self.merge = nn.Identity() if separations else nn.Conv2d(local_width, width, 1)
        self.project = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.decoder = RegionDecoder(width, num_classes, cross_attention)
        self.matches_regions = cross_attention != "vanilla"
        self.project_embeddings = nn.Linear(width, width)
        self.mask_norm = nn.LayerNorm(num_classes)

    def copy_patch_embedding(self) -> None:
        """Start the overlapped embedding from the backbone's kernel (3.2.1); to be called again after loading one."""
        if self.has_pathway:
            self.overlapped_embedding.load_state_dict(self.backbone.vit.patch_embed.proj.state_dict())

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the patch are zero-padded at the bottom
                and right, and the padding is cut off the scores.

        Returns:
            Prediction with logits (B, K, H, W) and aux `queries` (B, K, D), `keys` (B, D, h, w) at half of the patch (at
            the patch without the pathway) and `inverse_scale`, which the matching losses supervise.

        Raises:
            ValueError: a batch of one image in training.
        """
        padded = pad_to_stride(image, self.stride)
        taps, grid = self.backbone(padded)
        deep = tokens_to_map(self.project(taps[-1]), grid)  # (B, D, rows, cols)
        before: Tensor | None = None
        if self.has_pathway:
            sampled = [tokens_to_map(tap, grid) for tap in taps[:-1]]  # Xg_i, (B, D, rows, cols)
            local = self.reduce(self.overlapped_embedding(padded))  # Xl_0, (B, D_l, 2 rows, 2 cols)
            before, last = self.path(local, sampled)  # the same
            deep = self.meet(deep, last)  # (B, D, 2 rows, 2 cols)
        embeddings, attention = self.decoder(deep.flatten(2).transpose(1, 2))  # (B, K, D)
        fine = self.separate[1](deep, before) if len(self.separate) > 1 else deep  # (B, D, 4 rows, 4 cols)
        patches = F.normalize(fine, dim=1)
        classes = F.normalize(self.project_embeddings(embeddings), dim=-1)  # (B, K, D)
        masks = self.mask_norm(patches.flatten(2).transpose(1, 2) @ classes.transpose(1, 2))  # (B, 16 rows cols, K)
        aux = {
            "queries": attention.queries,
            "keys": tokens_to_map(attention.keys, (deep.shape[-2], deep.shape[-1])),
            "inverse_scale": self.decoder.attention.inverse_scale,
        }
        scores = tokens_to_map(masks, (fine.shape[-2], fine.shape[-1]))  # (B, K, 4 rows, 4 cols)
        return Prediction(upsample_and_crop(scores, padded, image), aux=aux)

    def meet(self, deep: Tensor, last: Tensor) -> Tensor:
        """Deep map (B, D, rows, cols) and last LSB's output (B, D_l, 2 rows, 2 cols) -> (B, D, 2 rows, 2 cols)."""
        if len(self.separate) > 0:
            return self.separate[0](deep, last)
        return F.interpolate(deep, size=last.shape[-2:], mode="bilinear", align_corners=False) + self.merge(last)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Eq. 16. Labels int64 (B, H, W); the matching losses see the one at each key's upper left corner."""
        terms = {"cross_entropy": cross_entropy(prediction.logits, labels)}
        if not self.matches_regions or not any(self.matching_weights):
            return terms
        keys = prediction.aux["keys"]  # (B, D, h, w)
        small = labels[:, :: self.key_stride, :: self.key_stride]  # (B, <= h, <= w)
        small = F.pad(small, (0, keys.shape[3] - small.shape[2], 0, keys.shape[2] - small.shape[1]), value=IGNORE)
        matching = region_matching_losses(
            prediction.aux["queries"],
            keys.flatten(2).transpose(1, 2),
            prediction.aux["inverse_scale"],
            small.flatten(1),
            self.decoder.attention.normalizes,
        )
        for name, weight, value in zip(
            ("query_to_region", "patch_to_region"), self.matching_weights, matching, strict=True
        ):
            if weight:
                terms[name] = weight * value
        return terms
