"""TensorRT's runtime in software is strict: each of its rules is broken here, and says so."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13 (Linux x86-64, no GPU needed)")

from seg_perception.engines.tensorrt.api import TensorRt
from seg_perception.engines.tensorrt.module import NoMemoryError
from seg_perception.engines.tensorrt.running_calls import Kernels
from test.seg_perception.engines.tensorrt.software_device import SoftwareCuda
from test.seg_perception.engines.tensorrt.software_memory import BrokenRuleError
from test.seg_perception.engines.tensorrt.software_runtime import CONTEXT_MEMORY, SoftwareTensorRt
from test.seg_perception.tiny_model import INPUT_SIZE

SHAPE = (1, *INPUT_SIZE, 3)
PIXELS = INPUT_SIZE[0] * INPUT_SIZE[1]
NBYTES = {"image": 3 * PIXELS, "labels": PIXELS, "confidence": PIXELS, "superpixels": 4 * PIXELS}


class Bench:
    """An engine with a context, nothing set yet."""

    def __init__(self, model: Path, own_memory: bool = True) -> None:
        self.cuda = SoftwareCuda(integrated=False)
        self.module = SoftwareTensorRt(self.cuda, lambda plan: model)
        self.tensorrt = TensorRt(self.module, "tensorrt_rtx")
        self.engine: Any = self.tensorrt.engine(b"")
        (self.context,) = self.tensorrt.execution_contexts(self.engine, Kernels(b""), 1, own_memory)
        self.stream = self.cuda.stream_create()

    def ready(self, **nbytes: int) -> Bench:
        """With shapes, and memory for every tensor, of other sizes where they are given; 0: none."""
        self.context.set_input_shape("image", SHAPE)
        for name, size in (NBYTES | nbytes).items():
            if size:
                self.context.set_tensor_address(name, self.cuda.malloc(size))
        return self

    def run(self) -> None:
        self.context.execute_async_v3(self.stream)

    def finish(self) -> None:
        while not self.cuda.stream_done(self.stream):
            pass


def without_shapes(bench: Bench) -> None:
    bench.ready()
    bench.context._shapes.clear()
    bench.run()


def unbound(bench: Bench) -> None:
    bench.ready(superpixels=0).run()


def bound_to_host_memory(bench: Bench) -> None:
    bench.ready()
    bench.context.set_tensor_address("labels", bench.cuda.host_alloc(PIXELS, False))
    bench.run()


def two_threads(bench: Bench) -> None:
    bench.ready()
    with bench.context._used:  # the other one is in the middle of its call
        bench.run()


def engine_gone(bench: Bench) -> None:
    bench.ready()
    bench.engine = None
    gc.collect()
    bench.run()


def captured_cold(bench: Bench) -> None:
    bench.ready()
    bench.cuda.begin_capture(bench.stream)
    bench.run()


def changed_after_capture(bench: Bench) -> None:
    bench.ready().run()
    bench.finish()
    bench.cuda.begin_capture(bench.stream)
    bench.run()
    graph = bench.cuda.graph_instantiate(bench.cuda.end_capture(bench.stream))
    bench.context.set_tensor_address("labels", bench.cuda.malloc(PIXELS))
    bench.cuda.graph_launch(graph, bench.stream)
    bench.finish()


def given_memory(memory: Callable[[Bench], tuple[int, int]]) -> Callable[[Bench], None]:
    return lambda bench: bench.ready().context.set_device_memory(*memory(bench))


BROKEN: dict[str, tuple[bool, Callable[[Bench], object], str]] = {
    "run without shapes": (True, without_shapes, r"\[shapes\] enqueueV3 without the shapes of \['image'\]"),
    "a shape asked for too early": (
        True,
        lambda b: b.context.get_tensor_shape("labels"),
        r"\[shapes\] labels is asked for before all input shapes are set",
    ),
    "a tensor without memory": (True, unbound, r"\[addresses\] enqueueV3 without memory for \['superpixels'\]"),
    "a tensor that is none": (
        True,
        lambda b: b.context.set_tensor_address("masks", 1),
        r"\[addresses\] the engine has no tensor masks",
    ),
    "memory of another type's size": (True, lambda b: b.ready(superpixels=PIXELS).run(), r"\[memory\] .* of which"),
    "memory of the host": (True, bound_to_host_memory, r"is no device memory"),
    "two threads": (True, two_threads, r"\[threads\] the context is used by two threads at once"),
    "an engine that is gone": (True, engine_gone, r"\[lifetime\] the engine is gone, its context is used"),
    "captured before it ran": (True, captured_cold, r"\[capture\] enqueueV3 is captured before it has run"),
    "changed after the capture": (True, changed_after_capture, r"\[capture\] a graph runs whose context was changed"),
    "no memory to work in": (False, lambda b: b.ready().run(), r"\[working\] enqueueV3 without memory to work in"),
    "too little to work in": (False, given_memory(lambda b: (b.cuda.malloc(9), 9)), r"\[working\] 9 bytes to work in"),
    "crooked memory to work in": (
        False,
        given_memory(lambda b: (b.cuda.malloc(2 * CONTEXT_MEMORY) + 8, CONTEXT_MEMORY)),
        r"\[working\] .* is not aligned to 256 bytes",
    ),
    "memory to work in twice": (
        True,
        given_memory(lambda b: (b.cuda.malloc(CONTEXT_MEMORY), CONTEXT_MEMORY)),
        r"\[working\] a context that has its own memory is given some",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_what_tensorrt_forbids_is_refused(rule: str, model: Path) -> None:
    own_memory, broken, said = BROKEN[rule]
    with pytest.raises(BrokenRuleError, match=said):
        broken(Bench(model, own_memory))


def test_a_shape_that_the_engine_does_not_take_is_refused_and_logged(model: Path) -> None:
    bench = Bench(model)
    assert not bench.context.set_input_shape("image", (1, 2, 3, 3))
    assert "does not take (1, 2, 3, 3)" in bench.tensorrt.errors[0]


def test_what_tensorrt_allows_works(model: Path) -> None:
    bench = Bench(model).ready()
    threads = [threading.Thread(target=bench.run) for _ in range(2)]  # one after the other is allowed
    for thread in threads:
        thread.start()
        thread.join()
    bench.finish()
    assert bench.module.destroyed_at_work == 0
    bench.run()
    del bench.context
    gc.collect()
    assert bench.module.destroyed_at_work == 1  # which waits for the stream on a real device


def test_a_context_for_which_there_is_no_memory_is_said(model: Path) -> None:
    bench = Bench(model)
    bench.module.no_context = "Requested amount of GPU memory (1024 bytes) could not be allocated. Error: out of memory"
    with pytest.raises(NoMemoryError, match=r"no execution context could be made: .*; free device memory, or lower"):
        bench.tensorrt.execution_contexts(bench.engine, Kernels(b""), 2, own_memory=False)
