"""Parameters and multiply-accumulates of the configurations in the papers' tables: `python -m seg_models.summary [--json]`.

Counting rules (all five papers call multiply-accumulates FLOPs; an image of the configuration's size, batch 1):

    common      products of convolutions and matrix products, those inside attention and of the superpixels' painting
                included; nothing for biases, norms, activations, softmax and resizing. As fvcore, less its norms.
    regproxy    RegProxy's tables: convolutions and linear layers, without the attention of the backbone: neither its
                scores nor its four projections, which its counter did not see. Painting is not counted either.

`macs` is by the common rule, `macs_by_paper_rule` by the paper's own, which the difference is taken from. Parameters agree
if they are within 1 % of the printed figure or round to its digits; where they do not, the note says why. Models are
built on PyTorch's meta device: nothing is allocated, and the whole list takes half a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seg_models.papers.configurations import CONFIGURATIONS, Configuration
from seg_models.segmentation_model import SegmentationModel

PARAMETER_TOLERANCE = 0.01


def multiply_accumulates(model: SegmentationModel, size: tuple[int, int]) -> int:
    """The common rule, for one image of `size`. Sets the model to eval mode and its parameters to need no gradient: the
    counter hooks on to gradients even where none are recorded."""
    model.eval().requires_grad_(False)
    image = torch.empty(1, 3, *size, device=next(model.parameters()).device)
    # The fused attention kernels count as 0 on some devices; the plain one is two matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def regproxy_multiply_accumulates(model: SegmentationModel, size: tuple[int, int]) -> int:
    """RegProxy's rule, for one image of `size`. Sets the model to eval mode."""
    total = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    handles = [
        module.register_forward_hook(add)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not (name.startswith("backbone.") and ".attn." in name)
    ]
    try:
        with torch.no_grad():
            model.eval()(torch.empty(1, 3, *size, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return total


RULES: dict[str, Callable[[SegmentationModel, tuple[int, int]], int]] = {
    "common": multiply_accumulates,
    "regproxy": regproxy_multiply_accumulates,
}


@dataclass(frozen=True)
class Row:
    """A configuration, counted.

    Attributes:
        configuration: what was counted.
        params: number of parameters.
        macs: multiply-accumulates by the common rule, of all windows.
        macs_by_paper_rule: by the paper's rule.
    """

    configuration: Configuration
    params: int
    macs: int
    macs_by_paper_rule: int

    @property
    def published_params(self) -> int | None:
        """As printed, in single parameters."""
        printed = self.configuration.params_m
        return None if printed is None else round(printed * 1e6)

    @property
    def published_macs(self) -> int | None:
        """As printed, in single multiply-accumulates."""
        printed = self.configuration.gmac
        return None if printed is None else round(printed * 1e9)

    @property
    def params_agree(self) -> bool:
        """Within 1 % of the printed figure, or rounding to it; True where nothing is printed."""
        printed = self.configuration.params_m
        return printed is None or agrees(self.params / 1e6, printed)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`; null where nothing is published."""
        configuration = self.configuration
        return {
            "name": configuration.name,
            "params": self.params,
            "published_params": self.published_params,
            "macs": self.macs,
            "published_macs": self.published_macs,
            "macs_by_paper_rule": self.macs_by_paper_rule,
            "rule": configuration.rule,
            "windows": configuration.windows,
            "architecture": configuration.architecture,
            "backbone": configuration.backbone,
            "classes": configuration.classes,
            "image_size": list(configuration.size),
            "source": configuration.source,
            "note": configuration.note,
        }


def count(configuration: Configuration) -> Row:
    """Build a configuration without memory and count it."""
    with torch.device("meta"):
        model = configuration.build()
        params = sum(parameter.numel() for parameter in model.parameters())
        macs = multiply_accumulates(model, configuration.size)
        by_rule = macs if configuration.rule == "common" else RULES[configuration.rule](model, configuration.size)
    return Row(configuration, params, macs * configuration.windows, by_rule * configuration.windows)


def agrees(value: float, printed: float) -> bool:
    """Whether a value is within 1 % of a printed one or rounds to its digits: 22 is printed without any, 22.0 with one."""
    digits = len(str(printed).partition(".")[2])
    return abs(value - printed) <= PARAMETER_TOLERANCE * printed or round(value, digits) == printed


def difference(value: float, printed: float | None) -> str:
    """ "+1.2 %", or "" where nothing is printed."""
    return "" if printed is None else f"{100 * (value / printed - 1):+.1f} %"


def lines(rows: list[Row]) -> list[str]:
    """The table as text."""
    head = (
        f"{'configuration':48} {'params M':>9} {'printed':>8} {'diff.':>8}  "
        f"{'GMAC':>8} {'its rule':>8} {'printed':>8} {'diff.':>8}  source, note"
    )
    text = [head, "-" * len(head)]
    for row in rows:
        c = row.configuration
        params = "" if c.params_m is None else str(c.params_m)
        gmac = "" if c.gmac is None else str(c.gmac)
        by_rule = "" if c.rule == "common" else f"{row.macs_by_paper_rule / 1e9:.1f}"
        text.append(
            f"{c.name:48} {row.params / 1e6:9.2f} {params:>8} {difference(row.params, row.published_params):>8}  "
            f"{row.macs / 1e9:8.1f} {by_rule:>8} {gmac:>8} "
            f"{difference(row.macs_by_paper_rule, row.published_macs):>8}  {'; '.join(filter(None, (c.source, c.note)))}"
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code (2: bad input, one line says what)."""
    parser = argparse.ArgumentParser(prog="python -m seg_models.summary", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", action="store_true", help="a list of objects instead of the table; single units, not M or G"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="configurations whose name contains this")
    args = parser.parse_args(arguments)
    chosen = [c for c in CONFIGURATIONS if args.only.lower() in c.name.lower()]
    if not chosen:
        print(f"error: no configuration's name contains {args.only!r}; without --only all are listed", file=sys.stderr)
        return 2
    rows = [count(configuration) for configuration in chosen]
    if args.json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
    else:
        print((__doc__ or "").partition("\n\n")[2])
        print("\n".join(lines(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
