"""SegViT: Semantic Segmentation with Plain Vision Transformers (Zhang et al., NeurIPS 2022), equations by number.

    image --transformer--> taps F_i, tokens of chosen blocks                       (3.1)
    class tokens G, taps --ATM, deepest tap first--> class scores, masks           (3.2, eq. 1-3; segvit_atm.py)
    score of class c = sum over tokens of P(token says c) * mask of the token      (3.2, inference)

`SegViT` has a plain transformer below it: "Single" with one tap, "Cascade" with several (Table 5). `SegViTPyramid` has a
Swin Transformer (Table 6). The Shrunk form is in segvit_shrunk.py, the loss (eq. 4) in segvit_loss.py.

The released form is the default. What the text leaves out: class and distillation tokens are removed before the encoder,
whose last LayerNorm is left out and whose drop path is on its feed-forward branches alone; a tap goes through a linear layer
and a norm to half of the encoder's width; the masks are enlarged to the fixed size that the model was made for, and the
scores of an image of another size are resized from it.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from seg_models.architectures.segvit.atm import AtmDecoder, Grid
from seg_models.architectures.segvit.loss import class_loss, mask_losses, present_classes
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import Decision, SegmentationModel, pad_to_stride, resize_bilinear

LOSS_FORMS = ("mask", "cross_entropy")
CHANNELS_PER_HEAD = 32
SCORE_FLOOR = 1e-6  # keeps the logarithm of a score finite


class AtmModel(SegmentationModel):
    """What the models with an ATM decoder share. They give `stages` and set `decoder`.

    Args:
        backbone: TokenBackbone or SwinBackbone.
        num_classes: K.
        image_size: (H, W) that masks are enlarged to, rounded up to the stride, and that learned grids are made for.
        stride: sides of an image are padded to multiples of it.
        loss_form: "mask" (eq. 4) or "cross_entropy" of the pixels' scores (Table 4, "ATM, CE loss"). The scores are
            probabilities times masks, so the softmax is taken over their logarithms: -log(score / sum of scores).
        class_weight, focal_weight, dice_weight: of the terms of eq. 4 (as released).
        no_object_weight: of class tokens whose class is absent.

    Raises:
        ValueError: an unknown loss form, or fewer than one class.
    """

    backbone: TokenBackbone | SwinBackbone
    decoder: AtmDecoder

    def __init__(
        self,
        backbone: TokenBackbone | SwinBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        stride: int,
        loss_form: str = "mask",
        class_weight: float = 1.0,
        focal_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
    ) -> None:
        super().__init__(num_classes, image_size)
        if loss_form not in LOSS_FORMS:
            raise ValueError(f"loss_form is {loss_form!r}; expected one of {', '.join(LOSS_FORMS)}")
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = stride
        self.mask_size = self.padded_size(image_size)
        self.loss_form = loss_form
        self.weights = {"class": class_weight, "focal": focal_weight, "dice": dice_weight}
        self.no_object_weight = no_object_weight

    @abstractmethod
    def stages(self, image: Tensor) -> tuple[list[Tensor], list[Grid]]:
        """Padded image -> taps (B, N_i, C_i) for the decoder, in the order of its stages, and their (rows, cols)."""

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the stride are zero-padded at the bottom
                and right, and the padding is cut off the scores.

        Returns:
            Prediction with logits (B, K, H, W): as released, sums of probability times mask, 0..K and mostly 0..1, to be
            compared and averaged as they are; aux "class_logits" (S, B, K, K + 1) and "masks" (S, B, K, rows, cols) of
            the S supervised outputs, before softmax and sigmoid.
        """
        padded = pad_to_stride(image, self.stride)
        class_logits, masks = self.decoder(*self.stages(padded))
        probability = class_logits[-1].softmax(dim=-1)[..., :-1]  # (B, K tokens, K classes)
        mask = resize_bilinear(masks[-1], self.mask_size).sigmoid()  # eq. 3, (B, K tokens, *mask_size)
        scores = (probability.transpose(1, 2) @ mask.flatten(2)).unflatten(2, self.mask_size)  # (B, K, *mask_size)
        scores = resize_bilinear(scores, self.padded_size(image.shape[-2:]))[..., : image.shape[-2], : image.shape[-1]]
        return Prediction(scores, aux={"class_logits": class_logits, "masks": masks})

    def decide(self, image: Tensor) -> Decision:
        """Labels and confidence of a normalised batch (B, 3, H, W).

        The scores are no logits but probability times mask already: the confidence is the best score itself, at most 1.
        """
        best = self(image).logits.max(dim=1)
        return Decision(best.indices, best.values.clamp(max=1.0), None)

    def log_scores(self, logits: Tensor) -> Tensor:
        """As the base class: the logarithm, so that probabilities are shares of the sum over the classes."""
        return (logits.float() + SCORE_FLOOR).log()

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Eq. 4 for each supervised output: "class", "focal" and "dice" of the prediction, with "_0", "_1", ... those of
        the outputs before it, in order. Or "cross_entropy" alone, if `loss_form` says so. Labels: int64 (B, H, W).
        """
        if self.loss_form == "cross_entropy":
            return {"cross_entropy": cross_entropy(self.log_scores(prediction.logits), labels)}
        class_logits, masks = prediction.aux["class_logits"], prediction.aux["masks"]
        present = present_classes(labels, self.num_classes)  # (B, K)
        full = self.padded_size(labels.shape[1:])
        terms = {}
        last = len(masks) - 1
        for number in range(last + 1):
            sizes = (self.mask_size, full) if number == last else (full,)
            focal, dice = mask_losses(masks[number], labels, present, sizes)
            parts = {
                "class": class_loss(class_logits[number], present, self.no_object_weight),
                "focal": focal,
                "dice": dice,
            }
            suffix = "" if number == last else f"_{number}"
            terms.update({name + suffix: self.weights[name] * value for name, value in parts.items()})
        return terms

    def padded_size(self, size: tuple[int, ...]) -> Grid:
        """(H, W) rounded up to multiples of the stride."""
        return -(-size[0] // self.stride) * self.stride, -(-size[1] // self.stride) * self.stride


class SegViT(AtmModel):
    """SegViT on a plain transformer.

    Args:
        backbone: a ViT without a final norm, whose class token is removed before the encoder.
        num_classes: K.
        image_size: (H, W), see `AtmModel`.
        taps: blocks to read, counted from 0, shallow first. None takes the released cascade: 5, 7, 11 of 12 blocks,
            7, 15, 23 of 24, and thirds of other depths. (11,) is "Single" on ViT-B.
        decoder_width: D; None takes half of the encoder's.
        decoder_heads: None gives 32 channels a head (12 for B, 16 for L).
        decoder_layers: of a stage.
        decoder_dropout: 0.1 as released.
        loss_form, class_weight, focal_weight, dice_weight, no_object_weight: see `AtmModel`.

    Raises:
        ValueError: heads that do not divide the width, no tap, a bad loss form.
        BackboneError: a tap that does not exist.
    """

    backbone: TokenBackbone

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        taps: tuple[int, ...] | None = None,
        decoder_width: int | None = None,
        decoder_heads: int | None = None,
        decoder_layers: int = 3,
        decoder_dropout: float = 0.1,
        loss_form: str = "mask",
        class_weight: float = 1.0,
        focal_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
    ) -> None:
        weights = (class_weight, focal_weight, dice_weight, no_object_weight)
        super().__init__(backbone, num_classes, image_size, backbone.stride, loss_form, *weights)
        taps = cascade_taps(backbone.depth) if taps is None else tuple(taps)
        backbone.set_taps(taps)
        width, heads = decoder_shape(backbone.width, decoder_width, decoder_heads)
        self.decoder = AtmDecoder(
            (backbone.width,) * len(taps), num_classes, width, heads, decoder_layers, decoder_dropout
        )

    def stages(self, image: Tensor) -> tuple[list[Tensor], list[Grid]]:
        """The taps, deepest first, all of one grid."""
        taps, grid = self.backbone(image)
        return taps[::-1], [grid] * len(taps)


class SegViTPyramid(AtmModel):
    """SegViT on a hierarchical transformer (4.4, Table 6): a stage of ATM for each level, deepest first.

    The masks are enlarged to the finest level's grid before they are summed. No code was published for this form; all four
    levels and a width of 256 meet Table 6's cost within 1 %.

    Args:
        backbone: a Swin Transformer; its levels are the taps.
        num_classes: K.
        image_size: (H, W), see `AtmModel`.
        decoder_width: D.
        decoder_heads: None gives 32 channels a head.
        decoder_layers: of a stage.
        decoder_dropout: 0.1 as in the plain form.
        loss_form, class_weight, focal_weight, dice_weight, no_object_weight: see `AtmModel`.

    Raises:
        ValueError: heads that do not divide the width, a bad loss form.
    """

    backbone: SwinBackbone

    def __init__(
        self,
        backbone: SwinBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        decoder_width: int = 256,
        decoder_heads: int | None = None,
        decoder_layers: int = 3,
        decoder_dropout: float = 0.1,
        loss_form: str = "mask",
        class_weight: float = 1.0,
        focal_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
    ) -> None:
        weights = (class_weight, focal_weight, dice_weight, no_object_weight)
        super().__init__(backbone, num_classes, image_size, backbone.stride, loss_form, *weights)
        width, heads = decoder_shape(0, decoder_width, decoder_heads)
        self.decoder = AtmDecoder(backbone.channels[::-1], num_classes, width, heads, decoder_layers, decoder_dropout)

    def stages(self, image: Tensor) -> tuple[list[Tensor], list[Grid]]:
        """The levels, deepest first, each of its own grid."""
        levels = self.backbone(image)[::-1]  # each (B, C_i, rows_i, cols_i)
        taps = [level.flatten(2).transpose(1, 2) for level in levels]  # each (B, rows_i * cols_i, C_i)
        return taps, [(level.shape[-2], level.shape[-1]) for level in levels]


def cascade_taps(depth: int) -> tuple[int, ...]:
    """Blocks, from 0, that the released cascades read: 6th, 8th, 12th of 12, else the ends of the thirds."""
    return (5, 7, 11) if depth == 12 else tuple(sorted({max(depth * i // 3 - 1, 0) for i in (1, 2, 3)}))


def decoder_shape(encoder_width: int, width: int | None, heads: int | None) -> tuple[int, int]:
    """The decoder's width and heads: half of the encoder's and 32 channels a head where they are not given."""
    width = encoder_width // 2 if width is None else width
    return width, max(width // CHANNELS_PER_HEAD, 1) if heads is None else heads
