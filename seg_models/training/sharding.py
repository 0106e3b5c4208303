"""Training in pieces (FSDP2): each process keeps its share of weights, gradients and optimiser, for models too large for one GPU.

Checkpoints are those of any other run, whole and in one file: they are evaluated, exported and gone on with on any number of
processes, and so is any other run's here.

What is gathered at once is a unit: a transformer's block, a convolutional backbone's stage; everything else of the model is
one more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from seg_models.architectures.segvit.shrunk import ShrunkBackbone
from seg_models.backbones.conv import ConvBackbone
from seg_models.backbones.swin import SwinBackbone
from seg_models.backbones.vit import TokenBackbone
from seg_models.segmentation_model import SegmentationModel
from seg_models.training.task import SegmentationTask

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedTask(SegmentationTask):
    """A task whose model is cut into pieces once the processes are there. Arguments as `SegmentationTask`."""

    has_pieces = False

    def configure_model(self) -> None:
        """Called by Lightning in each process, where the model is still whole."""
        if self.has_pieces:
            return
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        if self.recipe.trainer.sync_batchnorm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.model.to(memory_format=torch.contiguous_format)  # other layouts cannot be cut
        for unit in units(self.model):
            fully_shard(unit, mesh=mesh)
        fully_shard(self.model, mesh=mesh)
        self.has_pieces = True


def units(model: SegmentationModel) -> Iterator[nn.Module]:
    """Parts of the backbone that are gathered alone: those that the model calls as a whole, and never looks into."""
    backbone = model.backbone
    if isinstance(backbone, TokenBackbone):
        for number, block in enumerate(backbone.vit.blocks):
            looked_into = backbone.relative_positions or (
                isinstance(backbone, ShrunkBackbone) and number == backbone.shrink_at
            )
            yield block.mlp if looked_into else block
    elif isinstance(backbone, SwinBackbone):
        yield from (part for name, part in backbone.network.items() if name.startswith("layers_"))
    elif isinstance(backbone, ConvBackbone):
        own = {id(part) for part in backbone.modules()}
        yield from (part for part, _ in backbone.stages() if id(part) in own and any(True for _ in part.parameters()))


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for it, with whole checkpoints that are read and checked here and in the form of any other run's.

    Lightning's own would number the optimiser's parameters in the model's order; an optimiser numbers them in that of its
    groups, and a run on one process goes by that.

    Args:
        processes: of all machines.
    """

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As a lone process's optimiser has it; empty in all but the first process."""
        plain = getattr(optimizer, "optimizer", optimizer)
        assert self.model is not None
        state: dict[str, Any] = dict(get_optimizer_state_dict(self.model, plain, options=WHOLE))
        if self.global_rank != 0:
            return {}
        names = [name for group in state["param_groups"] for name in group["params"]]
        number = {name: i for i, name in enumerate(names)}
        return {
            "state": {number[name]: values for name, values in state["state"].items()},
            "param_groups": [
                group | {"params": [number[name] for name in group["params"]]} for group in state["param_groups"]
            ],
        }

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What was checked (see `RunCheckpoints`), its weights and its optimiser's state in pieces where they belong."""
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path)
        assert self.model is not None
        set_model_state_dict(self.model, checkpoint["state_dict"], options=StateDictOptions(full_state_dict=True))
        of_parameter = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            names = [of_parameter[id(p)] for group in optimizer.param_groups for p in group["params"]]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            name_of = dict(zip(numbers, names, strict=True))
            named: Any = {
                "state": {name_of[number]: values for number, values in saved["state"].items()},
                "param_groups": [
                    group | {"params": [name_of[number] for number in group["params"]]}
                    for group in saved["param_groups"]
                ],
            }
            set_optimizer_state_dict(self.model, optimizer, named, options=StateDictOptions(full_state_dict=True))
        return checkpoint
