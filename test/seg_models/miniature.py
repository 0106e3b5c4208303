"""A published recipe at a size that a test can run: overrides that shrink its model, its data and its length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seg_models.build import BASELINES
from seg_models.training.recipe import Recipe

SWIN = "{embed_dim: 16, depths: [1, 2, 1, 1], num_heads: [1, 2, 2, 2], window_size: 4}"


def miniature(recipe: Recipe, folder: Path) -> list[str]:
    """Overrides for a recipe.

    The model keeps its depth, so that taps, samples and layers fit, and all of its own options; it becomes narrow and its
    image small. Two images make a batch, and the run is of one step.

    Args:
        recipe: as published.
        folder: of a data set with images and masks (`data.kind: folder`).
    """
    return [
        f"data.roots=[{folder}]",
        *(
            "data.kind=folder",
            "data.batch_size=2",
            "data.workers=0",
            "data.subset=0",
            "data.resize=[]",
            "data.scale=[1, 1]",
        ),
        *("data.val_roots=[]", "data.exclude=''", "data.crop=[]", "model.pretrained=false"),
        *("schedule.steps=1", "schedule.warmup_steps=0", "schedule.name=polynomial", "schedule.periods=[]"),
        *(
            "schedule.weights=[]",
            "trainer.accelerator=cpu",
            "trainer.validate_every_steps=1",
            "trainer.sync_batchnorm=false",
        ),
        *small_model(recipe),
    ]


def small_model(recipe: Recipe) -> list[str]:
    """Overrides of `model` alone."""
    model = recipe.model
    if model.name in BASELINES:
        return ["model.backbone=test_efficientnet", "model.image_size=[64, 96]"]
    if model.name == "superpixel_transformer":
        backbone = "test_convnext" if model.backbone.startswith("convnext") else "test_resnet"
        return [f"model.backbone={backbone}", "model.options.width=16", "model.image_size=[64, 96]"]
    if model.name == "rsseg_pyramid":
        return ["model.image_size=[32, 64]", "model.options.hidden_width=16", "model.options.local_width=8"]
    if model.name == "segvit_pyramid":
        return ["model.image_size=[64, 64]", f"model.options.timm_options={SWIN}", "model.options.decoder_width=32"]
    if "_r50_s32" in model.backbone:  # its stem cannot shrink; the other hybrid's is a third of it
        return ["model.backbone=vit_small_r26_s32_384", *small_model_on("vit_small_r26_s32_384", model.options)]
    return small_model_on(model.backbone, model.options)


def small_model_on(backbone: str, options: dict[str, Any]) -> list[str]:
    """Overrides of `model` for a plain, distilled, BEiT or hybrid transformer of this name."""
    depth = 24 if "large" in backbone else 12
    size = 64 if "patch32" in backbone or "_s32" in backbone else 32
    return [
        f"model.image_size=[{size}, {size}]",
        f"model.options.timm_options={{embed_dim: 24, depth: {depth}, num_heads: 2}}",
        *(["model.options.decoder_width=24"] if "decoder_width" in options else []),
    ]
