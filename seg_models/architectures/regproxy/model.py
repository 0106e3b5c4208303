"""RegProxy: Semantic Segmentation by Early Region Proxy (Zhang et al., CVPR 2022), equations cited by number.

    image --stem, M transformer layers ("token head")--> T --affinity head--> Q, each pixel to 9 regions   (4.2, eq. 4)
    T --remaining layers--> X_L --linear--> class scores Y of the regions                                  (4.3, eq. 5)
    Y'[p] = sum over N(p) of y(s) q_s(p), bilinear to the image's size                                     (eq. 6)

A region's cell is a token's; h x w pixels of the output lie in it (4 x 4: stride 4 for patches of 16). The pixels of a
cell choose among the 3x3 tokens around it, which is the neighbourhood of `ops/neighbourhood.py`, and is painted by it.

Where the text leaves out what the released code does, the code is followed: the affinity head has a BatchNorm and a
ReLU behind the depth-wise convolution, then a 1x1 convolution with BatchNorm and ReLU, and only then the 1x1 layer to
9 h w channels; T is the raw residual stream behind M blocks; the class token runs along and is dropped; the loss is
averaged over all pixels, those without label included.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.vit import TokenBackbone
from seg_models.losses import IGNORE, cross_entropy
from seg_models.normalization import Normalization
from seg_models.ops import neighbourhood as nb
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop

# The released models normalise so on every backbone, AugReg's included, which were pre-trained with 0.5 / 0.5.
IMAGENET: Normalization = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}

REGULARIZERS = ("purity", "norm")


class AffinityHead(nn.Module):
    """4.2, "Embedding Regions": from a token map to the association of each cell's pixels with 3x3 regions.

    Its convolutions start as released: Kaiming normal by their outputs (fan-out), which for the depth-wise one are those of
    all channels; biases zero.

    Args:
        width: D.
        region: (h, w), output pixels along a cell.
        depthwise: False uses a full 3x3 convolution instead (Table 9, "dpt."), None no 3x3 convolution at all.
    """

    def __init__(self, width: int, region: tuple[int, int], depthwise: bool | None = True) -> None:
        super().__init__()
        self.depthwise = nn.Sequential()
        if depthwise is not None:
            self.depthwise = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, groups=width if depthwise else 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
        self.pointwise = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.out = nn.Conv2d(width, 9 * region[0] * region[1], 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor) -> Tensor:
        """T' (B, D, R, C) -> association logits (B, R, C, h * w, 9), the image's border not yet masked."""
        x = self.out(self.pointwise(self.depthwise(tokens)))  # (B, 9 h w, R, C), channels ordered (9, h, w)
        return x.unflatten(1, (9, -1)).permute(0, 3, 4, 2, 1)


class RegProxy(SegmentationModel):
    """The whole model. Input is a normalised image; `normalization` says how.

    Args:
        backbone: a ViT of patch 16, a distilled one, or a hybrid of stride 32.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.
        token_head_layers: M, the transformer layers before the affinity head. None takes the released models' of
            ADE20K: 5 of 12 layers, 10 of 24, 0 for hybrids, that is before the first block. Cityscapes: 3 of 12, 6 of 24.
        region_size: (h, w), output pixels along a cell, (1, 1) to (16, 16); Table 8. The output stride is the
            backbone's divided by it.
        multi_level: classify the tokens of layers L/2, 3L/4 and L, joined (Table 12), instead of layer L's alone.
        region_regularizer: weight of the loss on mixed regions, eq. 11 (Table 11); 0 as released.
        regularizer_form: what of eq. 11's norm is minimised. "purity": one minus it; "norm": the norm itself, as printed. The
            default is what the text says that it wants, see `mixed_regions`.
        affinity_conv: "depthwise", "full" or "none", the 3x3 convolution of the affinity head (Table 9).

    Raises:
        ValueError: an option outside its range.
    """

    backbone: TokenBackbone

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        token_head_layers: int | None = None,
        region_size: tuple[int, int] = (4, 4),
        multi_level: bool = False,
        region_regularizer: float = 0.0,
        affinity_conv: str = "depthwise",
        regularizer_form: str = "purity",
    ) -> None:
        super().__init__(num_classes, image_size)
        depth, stride = backbone.depth, backbone.stride
        convolutions = {"depthwise": True, "full": False, "none": None}
        if affinity_conv not in convolutions:
            raise ValueError(f"affinity_conv is {affinity_conv!r}; expected one of {', '.join(convolutions)}")
        if regularizer_form not in REGULARIZERS:
            raise ValueError(f"regularizer_form is {regularizer_form!r}; expected one of {', '.join(REGULARIZERS)}")
        region = (region_size[0], region_size[1])
        if not all(1 <= side <= stride for side in region):
            raise ValueError(
                f"region_size is {region}; expected (h, w) with 1 to {stride} pixels, the backbone's stride"
            )
        layers = released_token_head_layers(backbone) if token_head_layers is None else token_head_layers
        if not 0 <= layers <= depth:
            raise ValueError(f"token_head_layers is {layers}; expected 0 to {depth}, the layers of {backbone.name}")
        self.backbone = backbone
        self.normalization = IMAGENET
        self.stride = stride
        self.superpixel_grid = backbone.grid
        self.region_size = region
        self.region_regularizer = region_regularizer
        self.regularizer_form = regularizer_form
        levels = (depth // 2 - 1, 3 * depth // 4 - 1, depth - 1) if multi_level else (depth - 1,)
        backbone.set_taps((layers - 1, *levels))  # layers are counted from 1, blocks from 0
        self.affinity_head = AffinityHead(backbone.width, region, convolutions[affinity_conv])
        self.classifier = nn.Linear(backbone.width * len(levels), num_classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the stride are zero-padded at the bottom
                and right, and the padding is cut off the outputs.

        Returns:
            Prediction with logits (B, K, H, W); in eval mode superpixels (B, H, W), the raster index in the (padded)
            image's grid of the region with the largest q_s(p); aux "affinity" (B, R, C, h * w, 9), Q by cells.
        """
        padded = pad_to_stride(image, self.stride)
        (early, *late), grid = self.backbone(padded)
        association_logits, affinity, token_logits = self.head(early, late, grid)
        painted = nb.paint(affinity, token_logits, self.region_size)  # eq. 6, (B, K, R h, C w)
        logits = upsample_and_crop(painted, padded, image)
        owner = None
        if not self.training:
            owner = nearest(
                nb.hard_superpixels(association_logits, self.region_size), (padded.shape[-2], padded.shape[-1])
            )
            owner = owner[:, : image.shape[-2], : image.shape[-1]]
        return Prediction(logits, owner, {"affinity": affinity})

    def head(self, early: Tensor, late: list[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The proxy head and the classifier.

        Args:
            early: T, (B, N, D).
            late: X_L, (B, N, D), or those of three levels.
            grid: (R, C) with R * C = N.

        Returns:
            association logits and Q (eq. 4), each (B, R, C, h * w, 9), and Y (eq. 5), (B, R, C, K).
        """
        token_map = early.transpose(1, 2).unflatten(2, grid)  # T', (B, D, R, C)
        association_logits = nb.mask_border(self.affinity_head(token_map))
        affinity = nb.association(association_logits)
        token_logits = self.classifier(torch.cat(late, dim=-1)).unflatten(1, grid)
        return association_logits, affinity, token_logits

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """4.3: cross entropy without balancing or mining; with `region_regularizer`, also eq. 11 on the same affinity."""
        terms = {"cross_entropy": cross_entropy(prediction.logits, labels, count_unlabelled=True)}
        if self.region_regularizer > 0:
            histogram = region_histogram(
                prediction.aux["affinity"], labels, self.num_classes, self.region_size, self.stride
            )
            terms["region_regularizer"] = self.region_regularizer * mixed_regions(histogram, self.regularizer_form)
        return terms


def released_token_head_layers(backbone: TokenBackbone) -> int:
    """M of the released ADE20K models: 0 for hybrids, else 5 of 12 layers and 10 of 24, in proportion for others."""
    return 0 if backbone.is_hybrid else round(backbone.depth * 5 / 12)


def nearest(index: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest resize of an integer map (B, h, w) to a size that is a whole multiple, or not: (B, H, W)."""
    rows = torch.arange(size[0], device=index.device) * index.shape[1] // size[0]
    cols = torch.arange(size[1], device=index.device) * index.shape[2] // size[1]
    return index[:, rows][:, :, cols]


def region_histogram(
    affinity: Tensor, labels: Tensor, num_classes: int, region_size: tuple[int, int], stride: int
) -> Tensor:
    """Eq. 11 before its L1 normalisation: the class mass that each region gathers from the pixels that chose it.

    Args:
        affinity: Q by cells, (B, R, C, h * w, 9).
        labels: int64 (B, H, W), IGNORE where not labelled. Shares of classes are averaged inside each output pixel, so
            that no label is lost when the output is coarser than the image.
        num_classes: K.
        region_size: (h, w).
        stride: pixels of the image along a cell.

    Returns:
        (B, R, C, K), each entry at least 0.
    """
    rows, cols = affinity.shape[1:3]
    height, width = rows * stride, cols * stride
    padded = F.pad(labels, (0, width - labels.shape[2], 0, height - labels.shape[1]), value=IGNORE)
    one_hot = F.one_hot(padded.masked_fill(padded == IGNORE, num_classes), num_classes + 1)[..., :num_classes]
    shares = one_hot.permute(0, 3, 1, 2).to(affinity.dtype)  # (B, K, H, W)
    shares = F.adaptive_avg_pool2d(shares, (rows * region_size[0], cols * region_size[1]))
    pixels = nb.to_cells(shares, region_size)  # (B, R, C, h * w, K)
    given = affinity.transpose(-1, -2) @ pixels  # (B, R, C, 9, K): what a cell gives to each of its 3x3 regions
    return nb.shift_to_owner(given, fill=0.0).sum(dim=1)


def mixed_regions(histogram: Tensor, form: str = "purity") -> Tensor:
    """Table 11's regulariser on region histograms (B, R, C, K): scalar in [0, 1], 0 where every region has one class.

    The appendix says that the L2 norm of the L1-normalised histogram is minimised, but that norm is largest (1) for a
    pure region; for "semantical homogeneity" it must grow. So 1 minus its mean over the labelled regions is returned, or
    with `form="norm"` the mean itself, as printed: 1 where every region has one class.
    """
    total = histogram.sum(dim=-1, keepdim=True)  # (B, R, C, 1)
    share = histogram / total.clamp(min=torch.finfo(histogram.dtype).tiny)
    # The small constant keeps the root's gradient finite at regions that gathered no label.
    norm = (share.square().sum(dim=-1) + 1e-12).sqrt()  # (B, R, C)
    labelled = total[..., 0] > 0
    value = norm if form == "norm" else 1 - norm
    return (value * labelled).sum() / labelled.sum().clamp(min=1)
