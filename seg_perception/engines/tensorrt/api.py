"""The one file that touches the module of TensorRT, and knows how its versions differ.

Two modules of one family are used through the same calls: `tensorrt` 10.3 (JetPack 6) to 11.x, and `tensorrt_rtx` 1.x
(TensorRT for RTX: from wheels on x86, builds without a GPU). What differs, and the branch here:

    what                             10.3 - 10.x     11.x          RTX 1.x      branch
    strongly typed networks          on request      always        on request   `_network_flags`: asked for where the
                                                                                flag exists; 11 accepts and ignores it
    FP16, INT8 flags, calibrators    there           removed       not there    never used: the ONNX says the types
    TF32 flag, on by default         there           there         there        `configure` always sets it one way
    device_memory_size               both, v2: 10.1  v2 only       v2 only      v2 always
    timing cache                     there           there         no-op,       `has_timing_cache`
                                                                   deprecated
    DLA                              10.3 - 10.7     from 11.4 on  none         `configure`: by the builder's number of
                                     on Orin         Orin (SBSA)                cores, 0 where there is none
    building for another GPU         no              no            there        `for_compute_capability`
    kernels                          in the plan     in the plan   compiled at  `execution_context`: a runtime cache
                                                                   first use    keeps them
    recording as a CUDA graph        fails, if not   the same      can be asked `capturable`

Sources: NVIDIA's "Migrating TensorRT from 10.x to 11.x" (Python, Jetson), "Working with DLA", the deprecation list of
TensorRT for RTX, and `tensorrt-stubs` 10.13, against which this file is type-checked.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.engines.base import EngineError, last_line
from seg_perception.engines.tensorrt.callbacks import PhaseObserver, make_logger, make_monitor

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

MODULES = ("tensorrt", "tensorrt_rtx")  # in the order in which `TensorRt.load` takes them
OLDEST = (10, 3)  # of `tensorrt`; JetPack 6

_NO_DRIVER = re.compile(r"error:? 35\b|driver version is insufficient|no CUDA-capable device", re.IGNORECASE)
_NO_MEMORY = re.compile(r"out ?_?of ?_?memory", re.IGNORECASE)
INSTALL_HINT = (
    "on a Jetson it comes with JetPack (apt install python3-libnvinfer; a virtual environment needs "
    "--system-site-packages), on x86 `pip install tensorrt` or, for RTX GPUs, `pip install tensorrt-rtx-cu13`"
)


class TensorRtError(EngineError):
    """TensorRT is missing, too old, or refused; the message is one line with TensorRT's own first error in it."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine. `shape` has -1 where the profile leaves a dimension open."""

    name: str
    is_input: bool
    dtype: np.dtype
    shape: tuple[int, ...]


class NoMemoryError(TensorRtError):
    """TensorRT ran out of memory."""


class Kernels:
    """The kernels that TensorRT for RTX compiles when it first runs an engine; seconds that need be spent only once.

    TensorRT itself refuses what another GPU, driver or version compiled.

    Args:
        kept: from an earlier process; empty for none.
    """

    def __init__(self, kept: bytes) -> None:
        self._kept = kept
        self._cache: Any = None

    def cache_of(self, config: Any) -> Any:
        """The `IRuntimeCache` for a context that is made with this `IRuntimeConfig`."""
        self._cache = config.create_runtime_cache()
        if self._kept and not self._cache.deserialize(self._kept):
            logger.info("kernels that were kept do not fit any more and are compiled anew")
            self._kept = b""
        return self._cache

    @property
    def new(self) -> bool:
        """Whether some were compiled that were not kept."""
        return self._cache is not None and not self._kept

    def to_bytes(self) -> bytes:
        """All of them, for the next process."""
        return bytes(self._cache.serialize())


def installed() -> list[str]:
    """Those of MODULES that are installed. A folder without code, as stub packages leave it, does not count."""
    found = []
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            found.append(name)
    return found


class TensorRt:
    """One TensorRT module behind the few calls that this package makes.

    Args:
        module: the imported module.
        name: one of MODULES.

    Raises:
        TensorRtError: it is older than OLDEST.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._module = module
        self.name = name
        self.version: str = module.__version__
        if name == "tensorrt" and self.version_tuple < OLDEST:
            raise TensorRtError(f"tensorrt is {self.version}, expected 10.3 or newer; update JetPack or the package")
        self.errors: list[str] = []  # the first that TensorRT logged in the call in hand; see `explained`
        self._logger = make_logger(module, self.errors)

    @classmethod
    def load(cls, name: str = "") -> TensorRt:
        """Import TensorRT.

        Args:
            name: one of MODULES; empty takes the first that is installed.

        Raises:
            TensorRtError: none is installed, or its import fails; the message says what to install.
        """
        names = [name] if name else installed()
        if not names:
            raise TensorRtError(f"engine tensorrt is not installed: {INSTALL_HINT}")
        try:
            module = importlib.import_module(names[0])
        except (ImportError, OSError) as error:
            raise TensorRtError(f"{names[0]} does not import: {last_line(error)}; {INSTALL_HINT}") from error
        return cls(module, names[0])

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    @property
    def version_tuple(self) -> tuple[int, ...]:
        """The version's leading numbers."""
        numbers = []
        for part in self.version.split("."):
            if not part.isdigit():
                break
            numbers.append(int(part))
        return tuple(numbers)

    @property
    def has_timing_cache(self) -> bool:
        return not self.is_rtx

    @property
    def builds_without_gpu(self) -> bool:
        """TensorRT times kernels on the GPU while it builds; TensorRT for RTX leaves that to the first run."""
        return self.is_rtx

    # Building

    def builder(self) -> trt.Builder:
        """Raises TensorRtError where there is no driver or device that TensorRT can use."""
        self.errors.clear()
        try:
            builder: trt.Builder | None = self._module.Builder(self._logger)
        except (TypeError, RuntimeError) as error:  # pybind's answer to a null pointer is a TypeError
            raise self.explained("the builder cannot start", error) from error
        if builder is None:
            raise self.explained("the builder cannot start")
        return builder

    def network(self, builder: trt.Builder, model: bytes | Path) -> trt.INetworkDefinition:
        """Parse an ONNX file, given as bytes or path, into a strongly typed network.

        Raises:
            TensorRtError: the parser refuses it; the message names node and operator.
        """
        self.errors.clear()
        network: trt.INetworkDefinition = builder.create_network(self._network_flags())
        parser: trt.OnnxParser = self._module.OnnxParser(network, self._logger)
        parsed = parser.parse(model) if isinstance(model, bytes) else parser.parse_from_file(str(model))
        if not parsed:
            raise TensorRtError(f"{self.name} {self.version} cannot read the model: {_parser_problem(parser)}")
        return network

    def _network_flags(self) -> int:
        flags = self._module.NetworkDefinitionCreationFlag.__members__
        return 1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0

    def configure(
        self,
        builder: trt.Builder,
        *,
        tf32: bool,
        workspace_mb: int,
        optimization_level: int,
        dla_core: int,
        compute_capability: tuple[int, int] | None,
    ) -> trt.IBuilderConfig:
        """A builder configuration.

        Args:
            builder: it is for.
            tf32: whether products of float32 tensors may round their inputs to ten bits; TensorRT's own default is yes.
            workspace_mb: most device memory a layer may use while it runs, megabytes (2**20); 0: TensorRT's default.
            optimization_level: 0 to 5; higher takes longer to build.
            dla_core: index of a DLA core, with the GPU for what it cannot do; -1: the GPU alone.
            compute_capability: of another GPU than this machine's to build for, such as (8, 9); None: this machine's.

        Raises:
            TensorRtError: there is no such DLA core, or this TensorRT cannot build for that GPU.
        """
        config: trt.IBuilderConfig = builder.create_builder_config()
        flags: type[trt.BuilderFlag] = self._module.BuilderFlag
        if tf32:
            config.set_flag(flags.TF32)
        else:
            config.clear_flag(flags.TF32)
        if workspace_mb:
            pools: type[trt.MemoryPoolType] = self._module.MemoryPoolType
            config.set_memory_pool_limit(pools.WORKSPACE, workspace_mb << 20)
        config.builder_optimization_level = optimization_level
        if dla_core >= 0:
            if dla_core >= builder.num_DLA_cores:
                raise TensorRtError(
                    f"DLA core {dla_core} was asked for, {self.name} {self.version} finds {builder.num_DLA_cores} on "
                    "this machine; leave the option out to use the GPU"
                )
            kinds: type[trt.DeviceType] = self._module.DeviceType
            config.default_device_type = kinds.DLA
            config.DLA_core = dla_core
            config.set_flag(flags.GPU_FALLBACK)
        if compute_capability is not None:
            self.for_compute_capability(config, compute_capability)
        return config

    def for_compute_capability(self, config: Any, wanted: tuple[int, int]) -> None:
        """Let the engine be for another GPU (TensorRT for RTX alone)."""
        name = f"SM{wanted[0]}{wanted[1]}"
        if not self.is_rtx:
            raise TensorRtError(
                f"{self.name} builds for the GPU it runs on, asked for compute capability {wanted[0]}.{wanted[1]}; "
                "build on the robot, or with TensorRT for RTX"
            )
        known = [key for key in self._module.ComputeCapability.__members__ if key.startswith("SM")]
        if name not in known:
            shown = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in known)
            raise TensorRtError(
                f"compute capability is {wanted[0]}.{wanted[1]}, {self.name} {self.version} builds for: {shown}"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(self._module.ComputeCapability.__members__[name], 0)

    def add_profile(
        self,
        builder: trt.Builder,
        config: trt.IBuilderConfig,
        name: str,
        smallest: tuple[int, ...],
        usual: tuple[int, ...],
        largest: tuple[int, ...],
    ) -> None:
        """Add the one optimization profile: the shapes of input `name` that the engine will take, and be quickest at."""
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        dims: type[trt.Dims] = self._module.Dims
        profile.set_shape(name, dims(list(smallest)), dims(list(usual)), dims(list(largest)))
        if config.add_optimization_profile(profile) < 0:
            raise self.explained(f"the shapes {smallest} to {largest} of {name} are refused")

    def mark_outputs(self, network: trt.INetworkDefinition, names: list[str]) -> list[str]:
        """Make inner tensors outputs, where the network has them under these names; returns those it has."""
        tensors: dict[str, trt.ITensor] = {}
        for i in range(network.num_layers):
            layer = network.get_layer(i)
            for j in range(layer.num_outputs):
                tensors[layer.get_output(j).name] = layer.get_output(j)
        outputs = {network.get_output(i).name for i in range(network.num_outputs)}
        found = [name for name in names if name in tensors and name not in outputs]
        for name in found:
            network.mark_output(tensors[name])
        return found

    def observe(self, config: trt.IBuilderConfig, observer: PhaseObserver) -> None:
        """Let the build report to `observer`. The config keeps the monitor alive."""
        config.progress_monitor = make_monitor(self._module, observer)

    def use_timing_cache(self, config: trt.IBuilderConfig, kept: bytes) -> None:
        """Start from what an earlier build measured; what does not fit this machine is left out by TensorRT."""
        cache: trt.ITimingCache | None = config.create_timing_cache(kept)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            logger.warning("%s does not take the kept timing cache; all kernels are timed anew", self.name)
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def timing_cache(self, config: trt.IBuilderConfig) -> bytes:
        """What this build measured, for the next one."""
        cache: trt.ITimingCache | None = config.get_timing_cache()
        return b"" if cache is None else bytes(cache.serialize())

    def build(self, builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig) -> bytes:
        """The serialized engine. Takes seconds to minutes; the interpreter runs on in other threads.

        Raises:
            TensorRtError: TensorRT gave none; the message has its reason.
        """
        self.errors.clear()
        plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
        if plan is None:
            raise self.explained("no engine could be built")
        return bytes(plan)

    # Running

    def engine(self, plan: bytes) -> trt.ICudaEngine:
        """Deserialize an engine. That executes what is in it: only give it bytes whose origin is known.

        Raises:
            TensorRtError: built by another version, for another GPU, damaged, or no driver.
        """
        self.errors.clear()
        runtime: trt.Runtime | None
        try:
            runtime = self._module.Runtime(self._logger)
        except (TypeError, RuntimeError) as error:
            raise self.explained("the runtime cannot start", error) from error
        engine: trt.ICudaEngine | None = None if runtime is None else runtime.deserialize_cuda_engine(plan)
        if engine is None:  # no exception: the reason is in the log alone
            raise self.explained("the engine cannot be loaded")
        return engine

    def tensors(self, engine: trt.ICudaEngine) -> list[TensorSpec]:
        """The engine's inputs and outputs."""
        modes: type[trt.TensorIOMode] = self._module.TensorIOMode
        specs = []
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            dtype = np.dtype(self._module.nptype(engine.get_tensor_dtype(name)))
            dims: trt.Dims = engine.get_tensor_shape(name)
            shape = tuple(int(dims[axis]) for axis in range(len(dims)))
            specs.append(TensorSpec(name, engine.get_tensor_mode(name) == modes.INPUT, dtype, shape))
        return specs

    def execution_context(self, engine: trt.ICudaEngine, kernels: Kernels) -> trt.IExecutionContext:
        """A context of the engine; its device memory is taken here.

        Args:
            engine: must outlive the context.
            kernels: taken from here, and new ones added, where they are not in the engine itself.

        Raises:
            TensorRtError: the memory is not to be had.
        """
        self.errors.clear()
        context: trt.IExecutionContext | None
        if self.is_rtx:
            config: Any = engine.create_runtime_config()
            config.set_runtime_cache(kernels.cache_of(config))
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise self.explained("no execution context could be made")
        return context

    def capturable(self, context: trt.IExecutionContext, stream: int) -> bool:
        """Whether running this context may be recorded as a CUDA graph.

        TensorRT for RTX knows, and would have to be given its memory for some models; TensorRT says so by failing.
        """
        if not self.is_rtx:
            return True
        rtx: Any = context
        return bool(rtx.is_stream_capturable(stream))

    # What TensorRT says

    def explained(self, what: str, error: BaseException | None = None) -> TensorRtError:
        """An error with the first thing that TensorRT logged since the call began: what follows it is consequences."""
        reason = self.errors[0] if self.errors else last_line(error) if error else "it gave no reason"
        message = f"{self.name} {self.version}: {what}: {reason}"
        text = " ".join(self.errors)
        if _NO_MEMORY.search(text):
            return NoMemoryError(f"{message}; free device memory, or lower --workspace-mb or --optimization-level")
        if _NO_DRIVER.search(text):
            return TensorRtError(f"{message}; install or update the NVIDIA driver (nvidia-smi must work)")
        return TensorRtError(message)


def _parser_problem(parser: trt.OnnxParser) -> str:
    """The parser's first error in one line."""
    if not parser.num_errors:
        return "it gave no reason"
    error: trt.ParserError = parser.get_error(0)
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return " ".join(f"{node}{error.desc()}".split())[:400]
