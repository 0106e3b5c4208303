"""Attention-to-Mask: SegViT's decoder (Zhang et al., NeurIPS 2022, 3.2), equations cited by number.

One token for each class queries the tokens of the backbone. Where a class token finds what it looks for is its mask: the
similarity inside the attention, before its softmax, is the mask before its sigmoid.

    Q = phi_q(G), K = phi_k(F), V = phi_v(F)                       (1)
    S(Q, K) = Q K^T / sqrt d,  Attention = softmax(S) V            (2)
    Mask = sigmoid(S)                                              (3)

A stage is three transformer decoder layers on one tap of the backbone; its mask is the mean over heads of the last layer's
similarity. Stages follow one another, deepest tap first: the class tokens pass on, and the masks are summed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_models.backbones.vit import resize_tokens
from seg_models.segmentation_model import resize_bilinear

Grid = tuple[int, int]


class AtmOutput(NamedTuple):
    """What an `AtmDecoder` returns; S outputs are supervised, the last is the prediction.

    Attributes:
        class_logits: (S, B, K, K + 1), for each class token the scores of the K classes and of "no object".
        masks: (S, B, K, rows, cols), masks of the class tokens before the sigmoid.
    """

    class_logits: Tensor
    masks: Tensor


class Attention(nn.Module):
    """Multi-head attention, eq. 1 and 2.

    Args:
        width: D.
        heads: they divide D.
        dropout: of the attention weights.
        starts_joint: the projections start as one matrix, see `init_as_released`.
    """

    def __init__(self, width: int, heads: int, dropout: float, starts_joint: bool) -> None:
        super().__init__()
        self.heads = heads
        self.starts_joint = starts_joint
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Queries (B, Q, D) attend to memory (B, N, D) -> (B, Q, D)."""
        q, k, v = self.project(queries, memory)  # (B, heads, Q or N, D / heads)
        dropout = self.dropout.p if self.training else 0.0
        return self.merge(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))

    def with_similarity(self, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, and S of eq. 2, averaged over heads: (B, Q, D), (B, Q, N)."""
        q, k, v = self.project(queries, memory)  # (B, heads, Q or N, D / heads)
        similarity = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # eq. 2, (B, heads, Q, N)
        attended = self.dropout(similarity.softmax(dim=-1)) @ v  # (B, heads, Q, D / heads)
        return self.merge(attended), similarity.mean(dim=1)

    def project(self, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 1, split into heads: (B, Q, D), (B, N, D) -> q (B, heads, Q, D / heads), k and v (B, heads, N, D / heads)."""
        q, k, v = (
            x.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for x in (self.query(queries), self.key(memory), self.value(memory))
        )
        return q, k, v

    def merge(self, attended: Tensor) -> Tensor:
        """(B, heads, Q, D / heads) -> (B, Q, D)."""
        return self.out(attended.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """A transformer decoder layer with its norms behind the residuals: self-attention, cross-attention, feed-forward.

    Args:
        width: D.
        heads: they divide D.
        dropout: of attention weights, of each branch and inside the feed-forward layer, which is 4 D wide with a ReLU.
    """

    # As released: `nn.MultiheadAttention` here, three linear layers in the ATM, whose similarity is wanted.
    cross_attention_starts_joint = True

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout, starts_joint=True)
        self.cross_attention = Attention(width, heads, dropout, self.cross_attention_starts_joint)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Queries (B, Q, D), memory (B, N, D) -> queries (B, Q, D)."""
        queries = self.attend_to_each_other(queries)
        queries = self.norm2(queries + self.dropout(self.cross_attention(queries, memory)))
        return self.feed_forward(queries)

    def attend_to_each_other(self, queries: Tensor) -> Tensor:
        """The self-attention's third of the layer: (B, Q, D) -> (B, Q, D)."""
        return self.norm1(queries + self.dropout(self.self_attention(queries, queries)))

    def feed_forward(self, queries: Tensor) -> Tensor:
        """The feed-forward third of the layer: (B, Q, D) -> (B, Q, D)."""
        hidden = self.dropout(F.relu(self.linear1(queries)))  # (B, Q, 4 D)
        return self.norm3(queries + self.dropout(self.linear2(hidden)))


class AtmLayer(DecoderLayer):
    """A decoder layer that also gives the similarity of its cross-attention, eq. 2."""

    cross_attention_starts_joint = False

    def forward(self, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Queries (B, K, D), memory (B, N, D) -> queries (B, K, D), similarity (B, K, N)."""
        queries = self.attend_to_each_other(queries)
        attended, similarity = self.cross_attention.with_similarity(queries, memory)
        queries = self.norm2(queries + self.dropout(attended))
        return self.feed_forward(queries), similarity


class AtmStage(nn.Module):
    """The ATM on one tap of the backbone.

    Args:
        tap_width: channels of the tap; None for tokens that have the decoder's width already and need no projection.
        width, heads, dropout: as `DecoderLayer`.
        layers: decoder layers.
    """

    def __init__(self, tap_width: int | None, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.project = projection(tap_width, width)
        self.layers = nn.ModuleList(AtmLayer(width, heads, dropout) for _ in range(layers))

    def forward(self, queries: Tensor, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Class tokens (B, K, D), tap (B, N, C) -> of each layer the class tokens (B, K, D) and similarity (B, K, N)."""
        memory = self.project(tokens)  # (B, N, D)
        outputs, similarities = [], []
        for layer in self.layers:
            queries, similarity = layer(queries, memory)
            outputs.append(queries)
            similarities.append(similarity)
        return outputs, similarities


class AtmDecoder(nn.Module):
    """Stages of ATM after one another, and one classifier for the class tokens of all.

    Args:
        tap_widths: channels of each tap, in the order of the stages; None for a tap without projection.
        num_classes: K; there is one class token for each.
        width: D.
        heads: of attention; they divide D.
        layers: decoder layers of a stage.
        dropout: in the decoder layers.
        every_layer: the outputs are those of each layer of the one stage, masks not summed (Shrunk), instead of those of
            each stage's last layer, masks summed from stage to stage (3.2, "The SegViT structure").

    Raises:
        ValueError: heads that do not divide D, no stage or layer, `every_layer` with more than one stage.
    """

    def __init__(
        self,
        tap_widths: tuple[int | None, ...],
        num_classes: int,
        width: int,
        heads: int,
        layers: int = 3,
        dropout: float = 0.1,
        every_layer: bool = False,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"decoder_width {width} must be a multiple of decoder_heads {heads}")
        if not tap_widths or layers < 1:
            raise ValueError(f"{len(tap_widths)} taps and {layers} decoder_layers; expected at least 1 of each")
        if every_layer and len(tap_widths) > 1:
            raise ValueError(f"every_layer is for one tap; there are {len(tap_widths)}")
        self.every_layer = every_layer
        self.class_tokens = nn.Parameter(torch.randn(num_classes, width))
        self.stages = nn.ModuleList(AtmStage(tap, width, heads, layers, dropout) for tap in tap_widths)
        self.classifier = nn.Linear(width, num_classes + 1)
        self.apply(init_as_released)

    def forward(self, taps: list[Tensor], grids: list[Grid]) -> AtmOutput:
        """Taps (B, rows_i * cols_i, C_i) in the order of the stages, and their grids; masks have the last one's grid."""
        queries = self.class_tokens.expand(taps[0].shape[0], -1, -1)  # G, (B, K, D)
        tokens: list[Tensor] = []
        masks: list[Tensor] = []
        for stage, tap, grid in zip(self.stages, taps, grids, strict=True):
            outputs, similarities = stage(queries, tap)
            queries = outputs[-1]  # (B, K, D)
            if self.every_layer:
                tokens, masks = outputs, [s.unflatten(2, grid) for s in similarities]  # each (B, K, rows, cols)
                continue
            mask = resize_bilinear(similarities[-1].unflatten(2, grid), grids[-1])  # (B, K, rows, cols)
            tokens.append(queries)
            masks.append(masks[-1] + mask if masks else mask)
        return AtmOutput(self.classifier(torch.stack(tokens)), torch.stack(masks))


class QueryUpsampling(nn.Module):
    """QU (3.2, "The Shrunk structure"): a learned query for each token of the wanted grid gathers what it needs.

    Stages of plain decoder layers, the shallow tap (1/16) first, then the deep one (1/32).

    Args:
        tap_width: channels of both taps.
        taps: number of taps, in the order of use.
        grid: (rows, cols) of the queries.
        width, heads, layers, dropout: as `AtmDecoder`.
    """

    def __init__(
        self, tap_width: int, taps: int, grid: Grid, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid = grid
        self.queries = nn.Parameter(torch.randn(grid[0] * grid[1], width))
        self.projects = nn.ModuleList(projection(tap_width, width) for _ in range(taps))
        self.stages = nn.ModuleList(
            nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers)) for _ in range(taps)
        )
        self.apply(init_as_released)

    def forward(self, taps: list[Tensor], grid: Grid) -> Tensor:
        """Taps (B, N_i, C) -> tokens (B, rows * cols, D) for a grid; the queries are resized where it is another."""
        queries = resize_tokens(self.queries[None], self.grid, grid)  # (1, rows * cols, D)
        queries = queries.expand(taps[0].shape[0], -1, -1)  # (B, rows * cols, D)
        for project, layers, tap in zip(self.projects, self.stages, taps, strict=True):
            memory = project(tap)  # (B, N_i, D)
            for layer in layers:  # type: ignore[attr-defined]
                queries = layer(queries, memory)
        return queries


def projection(tap_width: int | None, width: int) -> nn.Module:
    """From a tap to the decoder's width: a linear layer and a norm; nothing for a tap that has this width already."""
    return nn.Identity() if tap_width is None else nn.Sequential(nn.Linear(tap_width, width), nn.LayerNorm(width))


def init_as_released(module: nn.Module) -> None:
    """Start a layer as the authors' code does; given to `nn.Module.apply`, which comes to an Attention after its parts.

    Linear layers: weights normal with deviation 0.02, cut at 2, and biases zero. The projections of an Attention that starts
    joint: Xavier-uniform over query, key and value as one (3 D, D) matrix, as in `nn.MultiheadAttention`.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Attention) and module.starts_joint:
        for part in (module.query, module.key, module.value):
            nn.init.xavier_uniform_(part.weight, gain=0.5**0.5)  # of (D, D): sqrt(6 / 4 D) in place of sqrt(6 / 2 D)
