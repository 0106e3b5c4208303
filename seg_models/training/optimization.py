"""From a recipe to an optimiser with its parameter groups and a learning-rate schedule.

    optimizer = make_optimizer(model, recipe.optimizer)
    scheduler = make_scheduler(optimizer, recipe.schedule)

The names that a recipe may use are in the tuples below. `check_optimization` finds what cannot be run, before anything
is built.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from seg_models.backbones.vit import TokenBackbone
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.recipe import OptimizerRecipe, RecipeError, ScheduleRecipe
from seg_models.training.schedules import cosine_restarts, polynomial, ramp, warm_up

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("polynomial", "cosine_restarts")
WARMUPS = ("before", "over")

# Which parameters a recipe can free of weight decay, and which paper does so.
NO_DECAY = {
    "vectors": "biases, weights of norms and other one-dimensional parameters (Superpixel Transformer's default here; BEiT)",
    "learned_grids": "parameters whose first side is 1: position embeddings, queries (Superpixel Transformer's default here)",
    "backbone_norms": "weights and biases of the backbone's norms (RegProxy, SegViT; RSSeg on CSWin by SegFormer's protocol)",
    "position_embeddings": "the backbone's pos_embed (RegProxy)",
    "class_tokens": "the backbone's cls_token and dist_token (RegProxy)",
}

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def check_optimization(optimizer: OptimizerRecipe, schedule: ScheduleRecipe) -> None:
    """See that the two can be run.

    Raises:
        RecipeError: an unknown name (near ones are listed), a number outside its range, a warm-up that is longer than the
            run, or periods that do not fit.
    """
    _check_name("optimizer.name", optimizer.name, OPTIMIZERS)
    _check_name("schedule.name", schedule.name, SCHEDULES)
    _check_name("schedule.warmup", schedule.warmup, WARMUPS)
    for rule in optimizer.no_decay:
        _check_name("optimizer.no_decay", rule, NO_DECAY)

    _check_range("optimizer.lr", optimizer.lr, above=0)
    _check_range("optimizer.weight_decay", optimizer.weight_decay)
    _check_range("optimizer.backbone_lr_scale", optimizer.backbone_lr_scale)
    _check_range("optimizer.head_lr_scale", optimizer.head_lr_scale)
    for start, scale in optimizer.lr_scales.items():
        _check_range(f"optimizer.lr_scales.{start}", scale)
    _check_range("optimizer.layer_lr_decay", optimizer.layer_lr_decay, above=0, most=1)
    _check_range("optimizer.momentum", optimizer.momentum, below=1)
    _check_range("optimizer.clip_grad_norm", optimizer.clip_grad_norm)
    if optimizer.name == "sgd" and optimizer.nesterov and optimizer.momentum == 0:
        raise RecipeError("optimizer.nesterov needs a momentum above 0; set optimizer.momentum or nesterov: false")

    _check_range("schedule.steps", schedule.steps, above=0)
    _check_range("schedule.warmup_steps", schedule.warmup_steps)
    _check_range("schedule.warmup_start_ratio", schedule.warmup_start_ratio, most=1)
    _check_range("schedule.power", schedule.power)
    _check_range("schedule.min_lr", schedule.min_lr)
    if schedule.warmup_steps > schedule.steps:
        raise RecipeError(
            f"schedule.warmup_steps is {schedule.warmup_steps}, more than the {schedule.steps} of schedule.steps; "
            "expected a warm-up that is no longer than the run"
        )
    if schedule.min_lr > optimizer.lr:
        raise RecipeError(f"schedule.min_lr is {schedule.min_lr:g}, above optimizer.lr, {optimizer.lr:g}")
    if schedule.name == "cosine_restarts":
        _check_periods(schedule)
    elif schedule.periods or schedule.weights:
        raise RecipeError(f"schedule.periods and weights are of cosine_restarts; schedule.name is {schedule.name!r}")


def make_optimizer(model: SegmentationModel, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimiser over `parameter_groups`.

    Raises:
        RecipeError: what `parameter_groups` refuses, or an unknown name.
    """
    groups = parameter_groups(model, settings)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    _check_name("optimizer.name", settings.name, OPTIMIZERS)
    raise AssertionError(f"{settings.name} is listed in OPTIMIZERS and not made")


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: ScheduleRecipe) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule, to be stepped once after each update. Each group falls from its own rate to the same `min_lr`."""
    factors = [learning_rate_factor(schedule, group["lr"]) for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors)


def learning_rate_factor(schedule: ScheduleRecipe, lr: float) -> Callable[[int], float]:
    """What a rate is multiplied with at a step (counted from 0, the first update).

    Args:
        schedule: the recipe's.
        lr: the group's rate at its highest; a group of rate 0 is frozen and stays so.
    """
    lowest = min(schedule.min_lr / lr, 1.0) if lr > 0 else 0.0

    def decayed(step: int, steps: int) -> float:
        if schedule.name == "cosine_restarts":
            return cosine_restarts(step, 1.0, schedule.periods, schedule.weights)
        return polynomial(step, steps, 1.0, schedule.power, lowest)

    def factor(step: int) -> float:
        if schedule.warmup == "over":
            return warm_up(step, schedule.warmup_steps, decayed(step, schedule.steps), schedule.warmup_start_ratio)
        if step < schedule.warmup_steps:
            return ramp(step, schedule.warmup_steps)
        return decayed(step - schedule.warmup_steps, max(1, schedule.steps - schedule.warmup_steps))

    return factor


def parameter_groups(model: SegmentationModel, settings: OptimizerRecipe) -> list[dict[str, Any]]:
    """The trainable parameters of a model, by learning rate and weight decay, as an optimiser takes them.

    Raises:
        RecipeError: a start of a name in `lr_scales` that no parameter has, `layer_lr_decay` without a plain transformer,
            or an unknown rule in `no_decay`.
    """
    names = [name for name, _ in model.named_parameters()]
    for start in settings.lr_scales:
        if not any(name.startswith(start) for name in names):
            modules = sorted({name.partition(".")[0] for name in names})
            near = difflib.get_close_matches(start, modules, n=3) or modules
            raise RecipeError(f"optimizer.lr_scales: no parameter starts with {start!r}; there are: {', '.join(near)}")
    if settings.layer_lr_decay != 1 and not isinstance(model.backbone, TokenBackbone):
        raise RecipeError(
            f"optimizer.layer_lr_decay is {settings.layer_lr_decay:g}, which only a plain transformer's backbone can "
            f"have; the model's is a {type(model.backbone).__name__}"
        )
    free = parameters_without_decay(model, settings.no_decay)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), lr_scale(name, model, settings), name not in free)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.lr * scale,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (_, scale, decays), parameters in groups.items()
    ]


def lr_scale(name: str, model: SegmentationModel, settings: OptimizerRecipe) -> float:
    """What the learning rate of a parameter is multiplied with.

    With `layer_lr_decay` r on L blocks (BEiT): r^(L + 1) on patch and position embeddings and tokens, r^(L - i) on block i
    (counted from 0), 1 on the norm behind the last block.
    """
    fitting = [start for start in settings.lr_scales if name.startswith(start)]
    if fitting:
        return settings.lr_scales[max(fitting, key=len)]
    if not name.startswith("backbone."):
        return settings.head_lr_scale
    depth = 0
    if settings.layer_lr_decay != 1:
        assert isinstance(model.backbone, TokenBackbone)
        block = re.match(r"backbone\.vit\.blocks\.(\d+)\.", name)
        if block:
            depth = model.backbone.depth - int(block[1])
        elif not name.startswith("backbone.vit.norm."):
            depth = model.backbone.depth + 1
    return settings.backbone_lr_scale * settings.layer_lr_decay**depth


def parameters_without_decay(model: SegmentationModel, rules: Iterable[str]) -> set[str]:
    """Names of the parameters that rules of NO_DECAY free of weight decay.

    Raises:
        RecipeError: an unknown rule; near ones are listed.
    """
    free: set[str] = set()
    for rule in rules:
        _check_name("optimizer.no_decay", rule, NO_DECAY)
        if rule == "backbone_norms":
            for prefix, module in model.backbone.named_modules(prefix="backbone"):
                if isinstance(module, NORMS):
                    free.update(f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False))
            continue
        for name, parameter in model.named_parameters():
            last, in_backbone = name.rpartition(".")[2], name.startswith("backbone.")
            if (
                (rule == "vectors" and parameter.ndim <= 1)
                or (rule == "learned_grids" and parameter.shape[:1] == (1,))
                or (rule == "position_embeddings" and in_backbone and last == "pos_embed")
                or (rule == "class_tokens" and in_backbone and last in ("cls_token", "dist_token"))
            ):
                free.add(name)
    return free


def _check_periods(schedule: ScheduleRecipe) -> None:
    if not schedule.periods or len(schedule.periods) != len(schedule.weights):
        raise RecipeError(
            f"schedule has {len(schedule.periods)} periods and {len(schedule.weights)} weights; "
            "expected at least one period, and one weight a period"
        )
    for index, (period, weight) in enumerate(zip(schedule.periods, schedule.weights, strict=True)):
        _check_range(f"schedule.periods[{index}]", period, above=0)
        _check_range(f"schedule.weights[{index}]", weight)
    if schedule.min_lr > 0:
        raise RecipeError("schedule.min_lr is of polynomial; cosine_restarts ends each period at 0")
    decaying = schedule.steps - (schedule.warmup_steps if schedule.warmup == "before" else 0)
    if sum(schedule.periods) < decaying:
        raise RecipeError(
            f"schedule.periods add up to {sum(schedule.periods)} of {decaying} steps; the rate would be 0 for the rest"
        )


def _check_name(field: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=2) or names
        raise RecipeError(f"{field} is {name!r}; did you mean: {', '.join(near)}?")


def _check_range(
    field: str, value: float, above: float | None = None, most: float = math.inf, below: float = math.inf
) -> None:
    """Raise unless a finite value is at least 0, or else above `above`; at most `most`; and below `below`. NaN never is."""
    from_below = value >= 0 if above is None else value > above
    if from_below and value <= most and value < below:
        return
    expected = "at least 0" if above is None else f"above {above:g}"
    expected += f" and at most {most:g}" if most < math.inf else ""
    expected += f" and below {below:g}" if below < math.inf else ""
    raise RecipeError(f"{field} is {value:g}; expected a number {expected}")
