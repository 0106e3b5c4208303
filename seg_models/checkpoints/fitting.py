"""From a converted state dict into a model, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seg_models.architectures.superpixel_transformer.learned_grid import resize_grid
from seg_models.backbones.vit import TokenBackbone, resize_tokens
from seg_models.checkpoints.backbones import resize_bias_table
from seg_models.checkpoints.reading import CheckpointError
from seg_models.checkpoints.segvit import resize_queries
from seg_models.messages import one_line

State = Mapping[str, Tensor]
LEARNED_GRIDS = ("queries", "superpixel_position", "pixel_position")  # of a Superpixel Transformer, (1, D, h, w)


@dataclass(frozen=True)
class LoadReport:
    """What `load_released` did.

    Attributes:
        loaded: number of tensors that went into the model.
        unused: keys of the file that have no place in the model by design, such as the ImageNet classifier.
        resized: keys of the model whose position embeddings or biases were resized from the file's grid.
        untouched: keys of the model that such a file never holds (the decoder, for a file of a backbone).
        derived: keys of the model that were made from loaded tensors (RSSeg's overlapped patch embedding).
    """

    loaded: int
    unused: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()


def strict_load(
    model: nn.Module,
    converted: State,
    unused: Iterable[str] = (),
    untouched: Callable[[str], bool] = lambda key: False,
    where: str = "the checkpoint",
) -> LoadReport:
    """Load a converted state dict if its keys and shapes are the model's; position embeddings may be of another grid.

    Args:
        model: whose own key names `converted` has.
        converted: the tensors.
        unused: keys of the original file that were left out on purpose; goes into the report.
        untouched: says for a key of the model that such files never hold it.
        where: the file, for messages.

    Raises:
        CheckpointError: missing or unexpected keys, other shapes, or values that are not finite. The model is then unchanged.
    """
    own = model.state_dict()
    expected = {key: value for key, value in own.items() if not untouched(key)}
    tensors, resized = {}, []
    for key, value in converted.items():
        tensors[key] = value
        if key in expected and value.ndim == expected[key].ndim:
            tensors[key] = fit_grid(model, key, value, expected[key].shape, where)
        if tensors[key] is not value:
            resized.append(key)
    check_fit(tensors, expected, type(model).__name__, where, original=converted)
    model.load_state_dict({**own, **tensors})
    return LoadReport(len(tensors), tuple(unused), tuple(resized), tuple(key for key in own if key not in expected))


def check_fit(
    tensors: State, expected: State, model: str, where: str = "the checkpoint", original: State | None = None
) -> None:
    """See that tensors are those of a model, by key, shape and kind of number, and that all are finite.

    Args:
        tensors: to be loaded.
        expected: the model's own; their values are not looked at.
        model: name of the model, for messages.
        where: the file, for messages.
        original: the tensors before they were resized, whose shapes a message then names.

    Raises:
        CheckpointError: they are not.
    """
    missing = [key for key in expected if key not in tensors]
    unexpected = [key for key in tensors if key not in expected]
    if missing or unexpected:
        raise CheckpointError(f"{where} does not fit {model}: missing {_some(missing)}; unexpected {_some(unexpected)}")
    wrong = [
        f"{key} is {tuple((original or tensors)[key].shape)}, expected {tuple(expected[key].shape)}"
        for key, value in tensors.items()
        if value.shape != expected[key].shape
    ]
    wrong += [
        f"{key} is {value.dtype}, expected {expected[key].dtype}"
        for key, value in tensors.items()
        if value.is_floating_point() != expected[key].is_floating_point()
    ]
    if wrong:
        raise CheckpointError(f"{where} does not fit {model}: {_some(wrong)}")
    broken = not_finite(tensors)
    if broken:
        raise CheckpointError(
            f"{where} has NaN or infinite values in {_some(broken)}; its training went wrong or it is damaged, "
            "take an earlier checkpoint"
        )


def not_finite(tensors: State) -> list[str]:
    """Keys of the tensors that hold a NaN or an infinite value."""
    return [key for key, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]


def fit_grid(model: nn.Module, key: str, value: Tensor, shape: torch.Size, where: str) -> Tensor:
    """A file's tensor, resized if it belongs to the tokens of another grid than the model's; else the tensor itself."""
    if key == "backbone.vit.pos_embed":
        return resize_positions(value, model.backbone, where)  # type: ignore[arg-type]
    if key == "upsampling.queries" and value.shape != shape:
        return resize_queries(value, model.upsampling.grid)  # type: ignore[arg-type, union-attr]
    if key.startswith("backbone.vit.") and key.endswith(".relative_position_bias_table"):
        return resize_bias_table(value, model.backbone.grid)  # type: ignore[arg-type, union-attr]
    is_grid = value.ndim == 4 and value.is_floating_point() and value.numel() > 0
    if key in LEARNED_GRIDS and is_grid and value.shape[:2] == shape[:2]:
        return resize_grid(value, (shape[-2], shape[-1]))
    return value


def resize_positions(embedding: Tensor, backbone: TokenBackbone, where: str = "the checkpoint") -> Tensor:
    """Position embeddings (1, P + n^2, D) of a file, resized to the backbone's grid in the backbone's own way.

    Released files are of square grids. So a count that is a square means one, although the model's grid may have as
    many patches in another shape.

    Raises:
        CheckpointError: the file's grid is neither square nor, by its count, the model's, so that its sides are unknown.
    """
    patches = backbone.grid[0] * backbone.grid[1]
    prefix = backbone.vit.pos_embed.shape[1] - patches
    count = embedding.shape[1] - prefix
    side = round(max(count, 0) ** 0.5)
    if backbone.grid == (side, side) or (count == patches and side * side != count):
        return embedding
    if side * side != count:
        raise CheckpointError(
            f"{where} has position embeddings of {count} patches, which is no square grid; "
            f"build the model with the image_size of the checkpoint (the model's grid is {backbone.grid})"
        )
    spatial = resize_tokens(embedding[:, prefix:], (side, side), backbone.grid, backbone.position_resize)
    return torch.cat([embedding[:, :prefix], spatial], dim=1)


def _some(items: list[str], count: int = 3) -> str:
    rest = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(one_line(item, 160) for item in items[:count]) + rest if items else "none"
