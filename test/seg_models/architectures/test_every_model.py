"""What holds for every architecture: sizes, gradient checkpointing, stochastic depth, refusals; small conv backbones."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from seg_models.backbones.conv import conv_backbone
from seg_models.backbones.timm_models import BackboneError
from seg_models.build import ARCHITECTURES, ModelError, build_model
from seg_models.losses import IGNORE
from seg_models.segmentation_model import SegmentationModel
from test.seg_models.tiny_models import TINY, tiny_model

CITYSCAPES = (1024, 2048)
# A conv backbone of each kind of network that timm builds in its own way.
CONV = ("tf_efficientnet_lite0", "test_resnet", "test_convnext", "mobilenetv4_conv_small")
VARIANTS = [("superpixel_transformer", {"backbone": backbone}) for backbone in CONV]
VARIANTS += [(name, {}) for name in ARCHITECTURES if name != "superpixel_transformer"]
VARIANT_NAMES = [options.get("backbone", name) for name, options in VARIANTS]
# Random in training mode for its own sake; it is off where the randomness of something else is looked at.
HAS_DECODER_DROPOUT = ("segmenter", "segvit", "segvit_pyramid", "segvit_shrunk")

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=VARIANT_NAMES)


def pictures(height: int = 64, width: int = 96, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def masks(height: int = 64, width: int = 96, batch: int = 2) -> Tensor:
    """Labels of four classes, and an upper edge without any."""
    labels = torch.randint(0, 4, (batch, height, width), generator=torch.Generator().manual_seed(2))
    labels[:, :4] = IGNORE
    return labels


def total_loss(model: SegmentationModel, image: Tensor, labels: Tensor) -> Tensor:
    return torch.stack(list(model.loss(model(image), labels).values())).sum()


def test_the_tiny_models_are_those_that_can_be_built():
    assert tuple(TINY) == ARCHITECTURES


@every_architecture
@pytest.mark.parametrize("size", [(64, 96), (50, 70), (97, 33), (128, 64), (1, 5)])
def test_images_of_any_size_are_segmented_and_trained_on_at_their_own_size(name, size):
    model = tiny_model(name, image_size=(64, 96))
    loss = total_loss(model, pictures(*size), masks(*size))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        prediction = model.eval()(pictures(*size))
        decision = model.decide(pictures(*size))
    assert prediction.logits.shape == (2, 4, *size)
    assert prediction.logits.isfinite().all()
    assert decision.labels.shape == decision.confidence.shape == (2, *size)
    assert 0 <= decision.confidence.min() <= decision.confidence.max() <= 1
    assert (decision.superpixels is None) == (model.superpixel_grid is None)
    if decision.superpixels is not None:
        assert decision.superpixels.shape == (2, *size)


@every_architecture
def test_sides_that_the_stride_does_not_divide_are_padded_with_zeros_at_the_bottom_and_right(name):
    model = tiny_model(name).eval()
    image = pictures(50, 70)
    padded = nn.functional.pad(image, (0, -70 % model.stride, 0, -50 % model.stride))
    with torch.no_grad():
        close(model(image).logits, model(padded).logits[..., :50, :70])


def close(actual: Tensor, expected: Tensor) -> None:
    # Float32 with the same operations in the same order; the room is for kernels that sum in another one.
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that a forward pass keeps for the backward pass; memory that tensors share counts once.

    Args:
        model: whose parameters are kept in any case and so do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sizes: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in parameters:
                self.sizes[storage.data_ptr()] = storage.nbytes()
            return x

        super().__init__(pack, lambda x: x)

    def total(self) -> int:
        return sum(self.sizes.values())


@every_variant
def test_gradient_checkpointing_keeps_loss_gradients_and_statistics_and_saves_memory(name, options):
    results = []
    for checkpointing in (False, True):
        # Stochastic depth shows that the recomputation drops what the first pass dropped.
        model = tiny_model(name, drop_path_rate=0.3, gradient_checkpointing=checkpointing, **options)
        torch.manual_seed(3)
        saved = SavedBytes(model)
        with saved:
            loss = total_loss(model, pictures(), masks())
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients, dict(model.named_buffers()), saved.total()))
    (loss, gradients, buffers, full), (same_loss, same_gradients, same_buffers, less) = results
    close(same_loss, loss)
    assert same_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        close(same_gradients[key], gradient)
    for key, buffer in buffers.items():  # running means and variances of batch norms, and their counts of steps
        close(same_buffers[key], buffer)
    # 0.12 (EfficientNet-Lite0) to 0.85 (Shrunk SegViT, most of whose activations are the decoder's) of the memory.
    assert less < 0.9 * full


@every_variant
def test_stochastic_depth_acts_on_the_backbone_in_training_alone(name, options):
    options = options | ({"decoder_dropout": 0.0} if name in HAS_DECODER_DROPOUT else {})
    image = pictures(batch=4)

    def outputs(model: SegmentationModel) -> list[Tensor]:
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):  # some start at zero and with them the branch that is dropped
                nn.init.ones_(module.weight)
        result = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            result.append(model(image).logits.detach())
        return result

    model = tiny_model(name, drop_path_rate=0.5, **options)
    first, second = outputs(model)
    assert not torch.equal(first, second)
    first, second = outputs(tiny_model(name, **options))
    assert torch.equal(first, second)  # so the difference was the stochastic depth's
    first, second = outputs(model.eval())
    assert torch.equal(first, second)


def test_a_backbone_without_stochastic_depth_or_stages_says_so():
    with pytest.raises(BackboneError, match="ghostnet_100 has no option 'drop_path_rate' in timm"):
        build_model("superpixel_transformer", "ghostnet_100", 4, (64, 96), drop_path_rate=0.1)
    with pytest.raises(BackboneError, match="use gradient_checkpointing: false"):
        build_model("superpixel_transformer", "hrnet_w18_small", 4, (64, 96), gradient_checkpointing=True)


@every_architecture
def test_what_is_no_batch_of_normalised_images_is_refused(name):
    model = tiny_model(name).eval()
    for shape in ((2, 4, 64, 96), (2, 1, 64, 96), (3, 64, 96), (1, 2, 3, 64, 96), (3,), (2, 3, 0, 96)):
        for call in (model, model.decide):
            refused(ValueError, f"image of shape {shape}; expected (B, 3, H, W)", call, torch.zeros(shape))
    refused(ValueError, "image of torch.uint8; expected normalised floats", model, torch.zeros(2, 3, 64, 96).byte())


@every_architecture
def test_labels_that_do_not_fit_image_or_classes_are_refused(name):
    model = tiny_model(name)
    prediction = model(pictures())
    found = "scores of shape (2, 4, 64, 96) and labels of shape"
    refused(ValueError, f"{found} (2, 96, 64)", model.loss, prediction, torch.zeros(2, 96, 64, dtype=torch.long))
    refused(ValueError, f"{found} (64, 96)", model.loss, prediction, torch.zeros(64, 96, dtype=torch.long))
    refused(ValueError, "torch.uint8; expected torch.int64", model.loss, prediction, masks().byte())
    for label in (4, -1, 256):
        labels = masks()
        labels[1, 30, 40] = label
        message = f"label {label} in the batch; expected 0 to 3, or 255 for none"
        refused(ValueError, message, model.loss, prediction, labels)


@every_architecture
def test_wrong_arguments_are_refused_in_one_line_with_what_was_expected(name):
    refused(ValueError, "num_classes is 0; expected at least 1", tiny_model, name, 0)
    for size in ((0, 96), (64, -1), (64,), (64, 96, 3), (64.0, 96), 64, "64x96"):
        message = f"image_size is {size!r}; expected (H, W), two positive integers"
        refused(ValueError, message, tiny_model, name, 4, size)
    for rate in (-0.1, 1.0):
        refused(ValueError, f"drop_path_rate is {rate}", tiny_model, name, drop_path_rate=rate)
    message = "has no option 'gradient_checkpoint'; near options: gradient_checkpointing"
    refused(ModelError, message, tiny_model, name, gradient_checkpoint=True)
    backbone = TINY[name]["backbone"]
    refused(BackboneError, f"unknown backbone '{backbone}s'; near names", tiny_model, name, backbone=f"{backbone}s")
    refused(ModelError, f"near names: {name}", build_model, f"{name}s", backbone, 4, (64, 96))
    wrong_kind = "vit_tiny_patch16_224" if name == "superpixel_transformer" else "resnet18"
    refused(BackboneError, wrong_kind, tiny_model, name, backbone=wrong_kind)


def test_an_unknown_option_of_timm_and_a_transformer_for_a_conv_backbone_are_refused():
    options = {"embed_dims": 32}
    refused(
        BackboneError,
        "no option 'embed_dims' in timm; near options: embed_dim",
        tiny_model,
        "linear",
        timm_options=options,
    )
    swin = "swin_tiny_patch4_window7_224"
    refused(
        BackboneError,
        f"{swin} gives feature maps with the channels last",
        tiny_model,
        "superpixel_transformer",
        backbone=swin,
    )


def refused(error: type[Exception], message: str, call, *arguments, **options) -> None:
    """Assert that a call raises an error of this type, whose one line holds the message."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Strides and channels of the three maps; a ConvNeXt has none at 2 and starts at 4.
ROBOT_BACKBONES = {
    "tf_efficientnet_lite0": ((2, 8, 32), (16, 40, 320)),
    "mobilenetv4_conv_small": ((2, 8, 32), (32, 64, 960)),
    "mobilenetv4_conv_medium": ((2, 8, 32), (32, 80, 960)),
    "convnext_atto": ((4, 8, 32), (40, 80, 320)),
    "convnext_femto": ((4, 8, 32), (48, 96, 384)),
    "resnet18": ((2, 8, 32), (64, 128, 512)),
    "regnety_004": ((2, 8, 32), (32, 104, 440)),
    "resnet50": ((2, 8, 32), (64, 512, 2048)),
}


@pytest.mark.parametrize("backbone", ROBOT_BACKBONES)
def test_backbones_that_a_robot_carries_give_maps_at_their_strides_and_superpixels_beside_their_pixels(backbone):
    strides, channels = ROBOT_BACKBONES[backbone]
    torch.manual_seed(0)
    model = build_model("superpixel_transformer", backbone, 4, (64, 96), width=32).eval()
    image = pictures()
    with torch.no_grad():
        maps = model.backbone(image)
        prediction = model(image)
    assert [tuple(x.shape) for x in maps] == [
        (2, c, 64 // stride, 96 // stride) for c, stride in zip(channels, strides, strict=True)
    ]
    assert prediction.logits.shape == (2, 4, 64, 96)
    assert prediction.logits.isfinite().all()
    assert not torch.equal(prediction.logits[0], prediction.logits[1])  # the picture matters
    # A pixel belongs to one of the 3x3 superpixels around its own cell, of a grid of 2x3 cells.
    row = torch.arange(64)[:, None] // 32 - prediction.superpixels // 3
    col = torch.arange(96)[None] // 32 - prediction.superpixels % 3
    assert row.abs().max() <= 1
    assert col.abs().max() <= 1


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_femto"])
def test_convnext_gives_stem_second_and_last_stage(name):
    torch.manual_seed(0)
    backbone = conv_backbone(name).eval()
    reference = timm.create_model(name, features_only=True).eval()
    reference.load_state_dict(backbone.network.state_dict())
    image = pictures()
    with torch.no_grad():
        stem, second, last = backbone(image)
        stages = reference(image)  # behind the stages of blocks, at strides 4, 8, 16 and 32
        close(stem, reference.stem_1(reference.stem_0(image)))
    close(second, stages[1])
    close(last, stages[3])
    deeper = conv_backbone(name, (8, 16))
    assert [x.shape[1:] for x in deeper(image)] == [stages[1].shape[1:], stages[2].shape[1:]]


@pytest.mark.parametrize("backbone", ["resnet50", "tf_efficientnet_lite0", "mobilenetv4_conv_small", "convnext_large"])
@pytest.mark.parametrize(("stride", "grid"), [(64, (16, 32)), (32, (32, 64)), (16, (64, 128))])
def test_superpixel_grids_are_table_iiis(backbone, stride, grid):
    with torch.device("meta"), torch.no_grad():
        model = build_model("superpixel_transformer", backbone, 19, CITYSCAPES, superpixel_stride=stride).eval()
        prediction = model(torch.empty(1, 3, *CITYSCAPES))
    assert model.superpixel_grid == grid
    assert prediction.logits.shape == (1, 19, *CITYSCAPES)
    assert prediction.superpixels.shape == (1, *CITYSCAPES)
