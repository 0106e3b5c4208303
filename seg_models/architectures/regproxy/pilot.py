"""RegProxy's pilot study (section 3, Table 1): a vision transformer on SLIC superpixels instead of patches.

    image --SLIC--> N superpixels --RoIAlign of their boxes--> N patches of P x P --transformer, linear--> N class scores

Each superpixel grows from one cell of the patch grid and takes that cell's position embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_models.architectures.linear import LinearDecoder
from seg_models.architectures.regproxy.model import IMAGENET
from seg_models.architectures.regproxy.slic import bounding_boxes, owners, slic
from seg_models.backbones.vit import TokenBackbone
from seg_models.losses import IGNORE
from seg_models.normalization import Normalization
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride


class RegProxyPilot(SegmentationModel):
    """Superpixels as tokens.

    Args:
        backbone: a ViT with a patch embedding (Ti, S or B of patch 16 in Table 1); a hybrid is refused.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.
        compactness, slic_iterations: of SLIC, see there. Each iteration costs time, and its nodes in an exported file.

    Raises:
        ValueError: a hybrid backbone, fewer than one class, a compactness that is not positive, or no iteration.
    """

    backbone: TokenBackbone

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        compactness: float = 10.0,
        slic_iterations: int = 10,
    ) -> None:
        super().__init__(num_classes, image_size)
        if backbone.is_hybrid:
            raise ValueError(f"{backbone.name} has a convolutional stem; superpixels need a linear patch embedding")
        if compactness <= 0:
            raise ValueError(f"compactness is {compactness}; expected a positive number")
        if slic_iterations < 1:
            raise ValueError(f"slic_iterations is {slic_iterations}; expected at least 1")
        backbone.set_taps((backbone.depth - 1,))
        self.backbone = backbone
        self.normalization: Normalization = IMAGENET
        self.register_buffer("mean", torch.tensor(IMAGENET["mean"]).reshape(1, 3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET["std"]).reshape(1, 3, 1, 1) / 255, persistent=False)
        self.stride = backbone.stride
        self.superpixel_grid = backbone.grid
        self.compactness, self.slic_iterations = compactness, slic_iterations
        self.decoder = LinearDecoder(backbone.width, num_classes)

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the patch are zero-padded at the bottom
                and right, and the padding is cut off the outputs.

        Returns:
            Prediction with logits (B, K, H, W), the same in all pixels of a superpixel; superpixels (B, H, W), in
            training mode too, because the loss reads them; aux "region_logits" (B, K, N).
        """
        padded = pad_to_stride(image, self.stride)
        height, width = image.shape[-2:]
        cell = (self.stride, self.stride)
        # Not in bfloat16 either: positions of some hundred pixels would be rounded to two, and pixels change owner.
        with torch.no_grad(), torch.autocast("cuda" if padded.is_cuda else "cpu", enabled=False):
            rgb = padded.float() * self.std + self.mean  # type: ignore[operator]
            choice = slic(rgb, cell, self.compactness, self.slic_iterations)
            boxes = bounding_boxes(choice, cell)  # (B, R, C, 4)
            owner = owners(choice, cell)  # (B, H', W')
        batch, rows, cols, _ = boxes.shape
        patches = align_boxes(padded, boxes.flatten(1, 2), self.stride).flatten(0, 1)  # (B N, 3, P, P)
        tokens = self.backbone.vit.patch_embed.proj(patches).flatten(1).unflatten(0, (batch, rows * cols))  # (B, N, D)
        (encoded,) = self.backbone.encode(tokens, (rows, cols))
        region_logits = self.decoder(encoded, (rows, cols)).flatten(2)  # (B, K, N)
        index = owner.flatten(1)[:, None].expand(-1, self.num_classes, -1)  # (B, K, H' W')
        logits = region_logits.gather(2, index).unflatten(2, owner.shape[1:])
        return Prediction(logits[..., :height, :width], owner[:, :height, :width], {"region_logits": region_logits})

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy of each superpixel against its class histogram, eq. 1, over those with a labelled pixel."""
        assert prediction.superpixels is not None
        logits = prediction.aux["region_logits"].float()  # (B, K, N)
        target, labelled = soft_labels(prediction.superpixels, labels, logits.shape[2], self.num_classes)
        losses = F.cross_entropy(logits, target.transpose(1, 2), reduction="none")  # (B, N)
        return {"cross_entropy": (losses * labelled).sum() / labelled.sum().clamp(min=1)}


def align_boxes(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """RoIAlign of boxes of at most 3 x 3 cells, to patches of the cell's size.

    The same numbers as torchvision's `roi_align` with aligned=True and its adaptive sampling, in operators that every
    engine has: TensorRT's RoiAlign needs a GPU for the file to be parsed at all.

    Args:
        image: float (B, C, H, W).
        boxes: float (B, N, 4), x0, y0, x1, y1 in pixels, inside the image and at most 3 * `side` long.
        side: P, pixels along a cell and along a patch.

    Returns:
        (B, N, C, P, P).
    """
    batch, count, _ = boxes.shape
    height, width = image.shape[-2:]
    bins = torch.arange(side, device=boxes.device, dtype=boxes.dtype)[:, None]  # (P, 1)
    sample = torch.arange(3, device=boxes.device, dtype=boxes.dtype)  # (3,)

    def axis(low: Tensor, high: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
        """Sampled positions of a box along one axis, -1 at one border of the image and 1 at the other, and weights."""
        length = high - low  # (B, N)
        samples = (length / side).ceil().clamp(min=1, max=3)  # of a bin, as roi_align chooses
        offset = bins + (sample + 0.5) / samples[..., None, None]  # (B, N, P, 3), in bins
        position = low[..., None, None] + offset * (length / side)[..., None, None]  # in pixels
        weight = (sample < samples[..., None]).to(boxes.dtype) / samples[..., None]  # (B, N, 3)
        return (position * 2 / pixels - 1).flatten(2), weight  # (B, N, 3 P)

    x, weight_x = axis(boxes[..., 0], boxes[..., 2], width)
    y, weight_y = axis(boxes[..., 1], boxes[..., 3], height)
    shape = (batch, count, 3 * side, 3 * side)
    grid = torch.stack([x[:, :, None, :].expand(shape), y[..., None].expand(shape)], dim=-1)  # (B, N, 3 P, 3 P, 2)
    grid = grid.flatten(1, 2).to(image.dtype)
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    sampled = sampled.reshape(batch, -1, count, side, 3, side, 3)  # (B, C, N, P, 3, P, 3)
    along_x = (sampled * weight_x.to(image.dtype)[:, None, :, None, None, None]).sum(-1)  # (B, C, N, P, 3, P)
    patches = (along_x * weight_y.to(image.dtype)[:, None, :, None, :, None]).sum(-2)  # (B, C, N, P, P)
    return patches.transpose(1, 2)


def soft_labels(superpixels: Tensor, labels: Tensor, count: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Eq. 1: the share of each class among the labelled pixels of each superpixel.

    Args:
        superpixels: int64 (B, H, W) in [0, count).
        labels: int64 (B, H, W) in [0, num_classes) or IGNORE.
        count: N.
        num_classes: K.

    Returns:
        shares (B, N, K), summing to one or, without a labelled pixel, zero; bool (B, N), whether there is one.
    """
    known = labels != IGNORE
    index = (superpixels * num_classes + labels.masked_fill(~known, 0)).flatten(1)  # (B, H W)
    histogram = torch.zeros(labels.shape[0], count * num_classes, device=labels.device)
    histogram = histogram.scatter_add(1, index, known.flatten(1).float()).unflatten(1, (count, num_classes))
    total = histogram.sum(dim=2, keepdim=True)  # (B, N, 1)
    return histogram / total.clamp(min=1), total[..., 0] > 0
