"""Whether an engine that was built is put into use: it must compute what its model says."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from seg_perception.engines.base import Engine, EngineError
from seg_perception.engines.tensorrt.agreement import Agreement, batch_agreement
from seg_perception.engines.tensorrt.cache import EngineCache
from seg_perception.engines.tensorrt.prepare import PreparedEngine
from seg_perception.engines.tensorrt.stored_images import stored_images

logger = logging.getLogger(__name__)

Check = Callable[[Engine], Agreement | None]  # an open engine -> how far it agrees; None where it cannot be checked


class DisagreementError(EngineError):
    """An engine computes something else than its model, and is not put into use. One line with the figures."""


def require_agreement(
    engine: Engine, prepared: PreparedEngine, check: Check, threshold: float, cache: EngineCache
) -> None:
    """Check an engine unless it has been; what was found is kept with it.

    Args:
        engine: open.
        prepared: where it comes from.
        check: how far it agrees.
        threshold: least share of pixels on which it must.
        cache: keeps the outcome.

    Raises:
        DisagreementError: it does not.
    """
    kept = Agreement.from_json(prepared.manifest.get("agreement"))
    agreement = kept or check(engine)
    if agreement is None:
        return
    if not kept:
        with unless_the_cache_can_only_be_read():
            cache.note_agreement(prepared.name, prepared.manifest, agreement.to_json())
        logger.info("TensorRT engine %s: %s", prepared.name, agreement)
    if agreement.least < threshold:
        raise DisagreementError(
            f"TensorRT engine {prepared.name} is not used: {agreement}, expected {100 * threshold:g} %; "
            f"`seg_perception build-engine {engine.info.path} --precision "
            f"{prepared.manifest['key']['options']['precision']} --check-data DIR_OR_BAG` names the layers"
        )


def require_batch_agreement(engine: Engine, name: str, threshold: float) -> None:
    """Check that several images at once give what each gives alone: other kernels may run, and in memory that is shared.

    Args:
        engine: open.
        name: for the message.
        threshold: least share of pixels with the same label; 0: it is not asked.

    Raises:
        DisagreementError: they do not.
    """
    if engine.best_batch == 1 or not threshold:
        return
    try:
        share = batch_agreement(engine, stored_images(), engine.best_batch)
    except FileNotFoundError as error:
        logger.warning("several images at once are not checked: %s", error)
        return
    if share < threshold:
        raise DisagreementError(
            f"TensorRT engine {name} is not used: of {engine.best_batch} images at once one has the labels that it has alone "
            f"on {100 * share:.4g} % of the pixels, expected {100 * threshold:g} %"
        )


@contextlib.contextmanager
def unless_the_cache_can_only_be_read() -> Iterator[None]:
    """What is kept spares the next start some seconds; without, this one is as good."""
    try:
        yield
    except OSError as error:
        logger.warning("the next start has to do this again: %s", error)
