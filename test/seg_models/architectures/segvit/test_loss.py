"""SegViT's mask losses on several processes."""

from __future__ import annotations

import datetime
import multiprocessing
from pathlib import Path

import torch

from seg_models.architectures.segvit.loss import mask_losses, present_classes
from seg_models.losses import IGNORE

PROCESSES = 2
CLASSES = 4
CASES = {"uneven": 1, "no labels on one": IGNORE}  # what all pixels of the second process's images are


def batch(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (4, K, 3, 3) before a common factor, and labels (4, 6, 6): two images for each of two processes."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(4, CLASSES, 3, 3, generator=generator)
    labels = torch.randint(0, CLASSES, (4, 6, 6), generator=generator)
    labels[2:] = CASES[case]
    return masks, labels


def losses(masks: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Focal and dice loss and the gradients of both with respect to a factor that all images share: (4,)."""
    factor = torch.ones((), requires_grad=True)
    terms = mask_losses(masks * factor, labels, present_classes(labels, CLASSES), [(6, 6)])
    gradients = [torch.autograd.grad(term, factor, retain_graph=True)[0] for term in terms]
    return torch.stack([*(term.detach() for term in terms), *gradients])


def one_process(rank: int, folder: Path) -> None:
    """Its share of each case, averaged over the processes as distributed training averages gradients."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/meet", datetime.timedelta(minutes=2), PROCESSES, rank
    )
    for case in CASES:
        masks, labels = (part.chunk(PROCESSES)[rank] for part in batch(case))
        found = losses(masks, labels)
        torch.distributed.all_reduce(found)
        torch.save(found / PROCESSES, folder / f"{case} {rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_losses_and_gradients_of_one_with_the_whole_batch(tmp_path: Path):
    other = multiprocessing.get_context("spawn").Process(target=one_process, args=(1, tmp_path))
    other.start()
    one_process(0, tmp_path)
    other.join()
    assert other.exitcode == 0
    for case in CASES:
        expected = losses(*batch(case))
        assert (expected.abs() > 1e-3).all()
        for rank in range(PROCESSES):
            # float32 sums in another order
            torch.testing.assert_close(torch.load(tmp_path / f"{case} {rank}.pt"), expected, atol=1e-6, rtol=1e-5)
