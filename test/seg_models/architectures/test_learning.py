"""Every architecture, and its main forms, learns eight images by heart: it can represent them and its gradients are right.

The images are of the rooms data set where it lies beside or in the repository, and else drawn by `overfit.drawn_rooms`.
Every case was run on both, with two seeds of the weights: at least 0.965 of the pixels on rooms, 0.99 on drawn ones.
They are a few tens of pixels wide and the models are tiny, so that a case takes seconds on one thread.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seg_models.backbones.cswin import CSWinShape
from seg_models.build import ARCHITECTURES, build_model
from seg_models.losses import IGNORE
from test.seg_models.architectures.overfit import accuracy_after_training

SHALLOW = {"embed_dim": 48, "depth": 1, "num_heads": 2}
DEEPER = {"embed_dim": 48, "depth": 2, "num_heads": 2}
ON_VIT: dict[str, Any] = {"backbone": "vit_tiny_patch16_224", "patch_size": 2, "timm_options": SHALLOW}
ON_DEEPER_VIT = ON_VIT | {"timm_options": DEEPER}
# Two levels, at strides 2 and 4, instead of four from 4 to 32: the images are 16 pixels wide.
ON_SWIN: dict[str, Any] = {
    "backbone": "swin_tiny_patch4_window7_224",
    "timm_options": {"embed_dim": 48, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "patch_size": 2},
    "levels": (0, 1),
}
ON_CSWIN: dict[str, Any] = {
    "backbone": "cswin_tiny",
    "shape": CSWinShape(width=16, depths=(1, 1, 3, 1), heads=(2, 2, 2, 2), stripes=(1, 2, 3)),
}
# Dropout would only slow the learning by heart; one layer is enough for eight images.
MASK_TRANSFORMER = {"decoder_layers": 1, "decoder_dropout": 0.0}
# Masks are the mean over heads of what a head sees: one head of many channels learns them in the fewest steps.
ATM = {"decoder_layers": 1, "decoder_dropout": 0.0, "decoder_heads": 1, "decoder_width": 160}

# Arguments of `build_model` and of `accuracy_after_training`. `zoom` keeps few boundaries where the scores of a model are
# coarser than pixels: what lies between two of them, or inside a superpixel, cannot be told apart.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "superpixel_transformer": (
        "superpixel_transformer",
        {
            "backbone": "test_resnet",
            "width": 64,
            "pixel_stride": 2,
            "superpixel_stride": 4,
            "cross_attention_layers": 1,
            "self_attention_layers": 1,
            "feed_forward_width": 128,
            "hard_pixel_fraction": 1.0,  # all pixels teach at once; a fifth of them needs five times the steps
        },
        {"size": (32, 32), "zoom": 3, "steps": 180, "lr": 12e-3},
    ),
    "linear": ("linear", ON_VIT, {"size": (24, 32), "steps": 150, "lr": 8e-3}),
    "segmenter": (
        "segmenter",
        ON_VIT | MASK_TRANSFORMER,
        {"size": (12, 16), "zoom": 2, "steps": 300, "lr": 8e-3},
    ),
    "segmenter in the paper's form": (
        "segmenter",
        ON_VIT | MASK_TRANSFORMER | {"mask_form": "paper", "token_upsampling": 2},
        {"size": (12, 16), "zoom": 2, "steps": 150, "lr": 8e-3},
    ),
    "regproxy": ("regproxy", ON_DEEPER_VIT | {"patch_size": 4}, {"size": (24, 32), "steps": 120, "lr": 8e-3}),
    "regproxy_pilot": (
        "regproxy_pilot",
        ON_VIT | {"compactness": 3.0},
        {"size": (24, 32), "zoom": 4, "steps": 100, "lr": 8e-3},
    ),
    "rsseg": (
        "rsseg",
        ON_DEEPER_VIT | {"patch_size": 4, "sampled_blocks": (0, 1), "local_width": 16},
        {"size": (24, 32), "zoom": 2, "steps": 100, "lr": 6e-3},
    ),
    "rsseg_pyramid": (
        "rsseg_pyramid",
        ON_CSWIN | {"hidden_width": 128},
        {"size": (32, 32), "zoom": 3, "steps": 120, "lr": 1e-2},
    ),
    "segvit": (
        "segvit",
        ON_VIT | ATM,
        {"size": (12, 16), "zoom": 2, "steps": 250, "lr": 6e-3, "warm_up": 0.2},
    ),
    "segvit_pyramid": (
        "segvit_pyramid",
        ON_SWIN | ATM,
        {"size": (12, 16), "zoom": 4, "steps": 250, "lr": 5e-3, "warm_up": 0.2},
    ),
    # The queries that restore the fine grid must first find their places: slowly, and with a long warm-up.
    "segvit_shrunk": (
        "segvit_shrunk",
        ON_DEEPER_VIT | ATM | {"shrink_at": 1},
        {"size": (12, 16), "zoom": 2, "steps": 220, "lr": 1.5e-3, "warm_up": 0.3},
    ),
}


def test_no_architecture_is_left_out():
    assert {name for name, _, _ in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("case", CASES)
def test_a_tiny_model_learns_eight_images_by_heart(case):
    name, options, training = CASES[case]
    accuracy = accuracy_after_training(
        lambda classes, size: build_model(name, num_classes=classes, image_size=size, **options), **training
    )
    assert accuracy > 0.95


def test_a_superpixel_transformer_learns_two_images_from_their_hardest_fifth_alone():
    torch.manual_seed(0)
    model = build_model("superpixel_transformer", "test_efficientnet", 3, (64, 96), width=64).train()
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[0, 20:50, 30:60], labels[1, 5:30, 50:90], labels[1, 40:, :20] = 1, 2, 1
    labels[:, :4] = IGNORE
    colours = torch.tensor([[0.2, 0.1, -0.5], [1.0, -1.0, 0.5], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    image = colours[labels.clamp(max=3)].permute(0, 3, 1, 2)
    image = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(160):
        optimizer.zero_grad()
        torch.stack(list(model.loss(model(image), labels).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    known = labels != IGNORE
    right = model(image).logits.argmax(1)[known] == labels[known]
    assert right.float().mean() > 0.95
