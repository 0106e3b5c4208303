"""Segmenter: Transformer for Semantic Segmentation (Strudel et al., ICCV 2021), equations cited by number.

    image --transformer (eq. 1-3)--> tokens z_L                                   (3.1)
    z_L --linear--> class scores of each token                                    (3.2, "Linear")
    [z_L, cls] --2 transformer layers--> z_mask, c --> masks z_mask . c (eq. 4)   (3.2, "Mask Transformer")
    --bilinear--> class scores of each pixel

The text and the released code differ. The default is the released form, in which the published numbers were made and
the published weights load; the text's form is `mask_form="paper"` with `token_upsampling=2`:

                        released                                               text
    masks               LayerNorm over classes of cosine similarities          softmax(z_mask c^T / sqrt D), eq. 4
    before the product  a D x D projection without bias on either side         nothing
    tokens              as they are                                            bilinearly upsampled by two

In both, a linear layer `proj_dec` stands between encoder and decoder. The encoder's LayerNorms have an epsilon of 1e-5
and its position embeddings are resized bilinearly (`build.py` asks for that). Parameters of the decoders carry the
names of the released files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from seg_models.architectures.cnn_decoder import CnnDecoder
from seg_models.architectures.linear import LinearDecoder
from seg_models.backbones.vit import TokenBackbone, tokens_to_map
from seg_models.losses import cross_entropy
from seg_models.prediction import Prediction
from seg_models.segmentation_model import SegmentationModel, pad_to_stride, upsample_and_crop

DECODERS = ("mask", "linear", "cnn", "fa_cnn")
MASK_FORMS = ("released", "paper")


class MaskTransformer(nn.Module):
    """3.2, "Mask Transformer": class embeddings run with the tokens; their products with the tokens are the masks.

    Args:
        encoder_width: channels of the tokens.
        num_classes: K.
        width: D, channels inside.
        layers: M, transformer layers.
        heads: of their attention.
        dropout: of attention weights, projections and feed-forward layers.
        drop_path_rate: stochastic depth of the last layer.
        form: "released" or "paper", see the top of this file.
    """

    def __init__(
        self,
        encoder_width: int,
        num_classes: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        drop_path_rate: float,
        form: str,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.form = form
        rates = [drop_path_rate * i / max(layers - 1, 1) for i in range(layers)]
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                qkv_bias=True,
                proj_drop=dropout,
                attn_drop=dropout,
                drop_path=rate,
                norm_layer=nn.LayerNorm,  # type: ignore[arg-type]  # PyTorch's own epsilon, 1e-5
            )
            for rate in rates
        )
        self.cls_emb = nn.Parameter(torch.empty(1, num_classes, width))
        self.proj_dec = nn.Linear(encoder_width, width)
        self.decoder_norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)
        if form == "released":
            self.proj_patch = nn.Parameter(torch.randn(width, width) * width**-0.5)
            self.proj_classes = nn.Parameter(torch.randn(width, width) * width**-0.5)
            self.mask_norm = nn.LayerNorm(num_classes)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, rows * cols, D_enc) -> masks (B, K, rows, cols): scores if released, probabilities if paper."""
        x = self.proj_dec(tokens)  # (B, N, D)
        x = torch.cat([x, self.cls_emb.expand(x.shape[0], -1, -1)], dim=1)  # (B, N + K, D)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_norm(x)
        patches, classes = x[:, : -self.num_classes], x[:, -self.num_classes :]  # z_mask (B, N, D), c (B, K, D)
        if self.form == "paper":
            masks = (patches @ classes.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(dim=-1)  # eq. 4, (B, N, K)
        else:
            patches = F.normalize(patches @ self.proj_patch, dim=-1)
            classes = F.normalize(classes @ self.proj_classes, dim=-1)
            masks = self.mask_norm(patches @ classes.transpose(1, 2))  # (B, N, K)
        return tokens_to_map(masks, grid)


class Segmenter(SegmentationModel):
    """The whole model. Input is a normalised image; `normalization` says how (0.5 / 0.5 for ViT, ImageNet for DeiT).

    Args:
        backbone: a ViT or DeiT, small to large, of patch 8, 16 or 32; its last block is read.
        num_classes: K.
        image_size: (H, W) that the position embeddings are made for.
        decoder: "mask", "linear", or of Table 11 "cnn" and "fa_cnn"; see `cnn_decoder.py`.
        low_layer: of "fa_cnn", the block whose tokens join in, counted from 0. The text says "an intermediate layer"; None takes
            the last of the first third, 3 of 12.
        decoder_layers: M (2; Table 11).
        decoder_width: D of the mask transformer; None takes the encoder's (Table 11: 768 for B; 384 is its cheaper row).
        decoder_heads: None gives 64 channels a head.
        decoder_dropout: 0.1 as released.
        decoder_drop_path_rate: 0 as released.
        mask_form: "released" or "paper"; see the top of this file.
        token_upsampling: factor of the tokens' grid before the mask transformer; 1 as released, 2 in the text.

    Raises:
        ValueError: an unknown decoder or form, or a width that the heads do not divide.
        BackboneError: a low layer that does not exist.
    """

    backbone: TokenBackbone
    weighs_classes = True

    def __init__(
        self,
        backbone: TokenBackbone,
        num_classes: int,
        image_size: tuple[int, int],
        decoder: str = "mask",
        decoder_layers: int = 2,
        decoder_width: int | None = None,
        decoder_heads: int | None = None,
        decoder_dropout: float = 0.1,
        decoder_drop_path_rate: float = 0.0,
        mask_form: str = "released",
        token_upsampling: int = 1,
        low_layer: int | None = None,
    ) -> None:
        super().__init__(num_classes, image_size)
        if decoder not in DECODERS:
            raise ValueError(f"decoder is {decoder!r}; expected one of {', '.join(DECODERS)}")
        if mask_form not in MASK_FORMS:
            raise ValueError(f"mask_form is {mask_form!r}; expected one of {', '.join(MASK_FORMS)}")
        if token_upsampling < 1:
            raise ValueError(f"token_upsampling is {token_upsampling}; expected 1 or more")
        width = backbone.width if decoder_width is None else decoder_width
        heads = max(width // 64, 1) if decoder_heads is None else decoder_heads
        if heads < 1 or width % heads:
            raise ValueError(f"decoder_width {width} must be a multiple of decoder_heads {heads}")
        low_layer = max(backbone.depth // 3 - 1, 0) if low_layer is None else low_layer
        last = backbone.depth - 1
        backbone.set_taps((low_layer, last) if decoder == "fa_cnn" else (last,))
        self.backbone = backbone
        self.normalization = backbone.normalization
        self.stride = backbone.stride
        self.token_upsampling = token_upsampling
        self.masks_are_probabilities = decoder == "mask" and mask_form == "paper"
        self.decoder: MaskTransformer | LinearDecoder | CnnDecoder
        if decoder == "linear":
            self.decoder = LinearDecoder(backbone.width, num_classes)
        elif decoder == "mask":
            dropout = (decoder_dropout, decoder_drop_path_rate)
            self.decoder = MaskTransformer(
                backbone.width, num_classes, width, decoder_layers, heads, *dropout, mask_form
            )
        else:
            self.decoder = CnnDecoder(backbone.width, num_classes, low=decoder == "fa_cnn")

    def forward(self, image: Tensor) -> Prediction:
        """Segment a batch.

        Args:
            image: float (B, 3, H, W), normalised. Sides that are no multiple of the patch are zero-padded at the bottom
                and right, and the padding is cut off the scores.

        Returns:
            Prediction with logits (B, K, H, W). In the paper's form they are the logarithms of the upsampled masks, whose
            softmax is the masks again: bilinear weights keep the sum over classes at one.
        """
        padded = pad_to_stride(image, self.stride)
        taps, grid = self.backbone(padded)
        if isinstance(self.decoder, CnnDecoder):
            return Prediction(upsample_and_crop(self.decoder(taps, grid), padded, image))
        tokens = taps[0]  # z_L, (B, N, D)
        if self.token_upsampling > 1:
            rows, cols = grid[0] * self.token_upsampling, grid[1] * self.token_upsampling
            encodings = tokens_to_map(tokens, grid)  # (B, D, rows / f, cols / f)
            encodings = F.interpolate(encodings, size=(rows, cols), mode="bilinear", align_corners=False)
            tokens, grid = encodings.flatten(2).transpose(1, 2), (rows, cols)
        scores = upsample_and_crop(self.decoder(tokens, grid), padded, image)
        if self.masks_are_probabilities:
            scores = scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
        return Prediction(scores)

    def loss_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Section 3: per-pixel cross entropy, over the labelled pixels."""
        return {"cross_entropy": cross_entropy(prediction.logits, labels, class_weights=self.class_weights)}
