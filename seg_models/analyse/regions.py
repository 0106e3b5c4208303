"""What lies in a region: entropies of cells, SLIC superpixels and learned regions (RegProxy, 5.3, Figure 6 left), and the
probability maps of single regions (Figure 6 right, Figure 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from seg_models.analyse.errors import AnalysisError
from seg_models.architectures.regproxy.model import RegProxy
from seg_models.architectures.regproxy.slic import slic
from seg_models.architectures.superpixel_transformer.model import SuperpixelTransformer
from seg_models.evaluation.superpixels import contingency
from seg_models.evaluation.superpixels import entropies as bits_of
from seg_models.losses import IGNORE
from seg_models.ops import neighbourhood as nb
from seg_models.segmentation_model import SegmentationModel, pad_to_stride

OWN = nb.OFFSETS.index((0, 0))  # place of a cell's own region among its nine


def association_of(model: SegmentationModel, image: Tensor) -> tuple[Tensor, nb.Cell]:
    """Q by cells of the padded image, (B, R, C, P, 9), and the (h, w) pixels of the output in a cell.

    Raises:
        AnalysisError: a model without learned regions.
    """
    with torch.no_grad():
        if isinstance(model, RegProxy):
            return model(image).aux["affinity"], model.region_size
        if isinstance(model, SuperpixelTransformer):
            return nb.association(model.associate(image)[0]), model.cell
    raise AnalysisError(f"{type(model).__name__} learns no regions; expected RegProxy or SuperpixelTransformer")


def probability_maps(association: Tensor, cell: nb.Cell) -> Tensor:
    """q_s(p) of every region s of one image: (1, R, C, P, 9) -> (R * C, R * h, C * w); 0 where s is none of p's nine."""
    _, rows, cols, pixels, _ = association.shape
    index = nb.neighbour_index((rows, cols), association.device)[:, :, None].expand(rows, cols, pixels, 9)
    dense = association.new_zeros(rows, cols, pixels, rows * cols)
    # Neighbours outside the grid have no weight; whichever index stands for them, they add nothing.
    dense.scatter_add_(3, index.clamp(0, rows * cols - 1), association[0])
    return nb.from_cells(dense[None], cell)[0]


def entropies(owner: Tensor, labels: Tensor, regions: int, num_classes: int) -> Tensor:
    """Entropy of the classes in each region, by Eq. 1's histogram.

    Args:
        owner: int64 (H, W), the region of each pixel.
        labels: int64 (H, W) in [0, K) or IGNORE, which does not count.
        regions: their number.
        num_classes: K.

    Returns:
        float64 in bits, for each region with a labelled pixel.
    """
    counts = contingency(owner.cpu().numpy(), labels.cpu().numpy(), regions, num_classes)
    return torch.from_numpy(bits_of(counts))


def region_entropies(model: SegmentationModel, image: Tensor, rgb: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Entropies of an image's regions from three sources, of one size of cell.

    Args:
        model: with learned regions, in eval mode.
        image: float (1, 3, H, W), normalised.
        rgb: float (1, 3, H, W) in 0..1, the same.
        labels: int64 (H, W).

    Returns:
        "cells", "slic" and "learned", each as `entropies`.

    Raises:
        AnalysisError: a model without learned regions.
    """
    association, region = association_of(model, image)
    rows, cols = association.shape[1:3]
    height, width = pad_to_stride(image, model.stride).shape[-2:]
    cell = (height // rows, width // cols)
    full = labels.new_full((height, width), IGNORE)
    full[: labels.shape[0], : labels.shape[1]] = labels
    learned = nearest_pixels(nb.hard_superpixels(association, region)[0], (height, width))
    own = torch.full((1, rows, cols, cell[0] * cell[1]), OWN, device=image.device)
    superpixels = slic(pad_to_stride(rgb, model.stride), cell)
    hard = {name: torch.nn.functional.one_hot(choice, 9) for name, choice in (("cells", own), ("slic", superpixels))}
    found = {name: nb.hard_superpixels(choice, cell)[0] for name, choice in hard.items()} | {"learned": learned}
    return {name: entropies(owner, full, rows * cols, model.num_classes) for name, owner in found.items()}


def nearest_pixels(index: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest resize of an integer map (h, w) to (H, W)."""
    rows = torch.arange(size[0], device=index.device) * index.shape[0] // size[0]
    cols = torch.arange(size[1], device=index.device) * index.shape[1] // size[1]
    return index[rows][:, cols]
