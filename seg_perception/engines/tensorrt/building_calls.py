"""The calls of TensorRT that make an engine: parser, options, profile, progress, timing cache, builder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.engines.tensorrt.callbacks import PhaseObserver, make_monitor
from seg_perception.engines.tensorrt.module import TensorRtError, UsedModule

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)


class BuildingCalls(UsedModule):
    """What building an engine takes. Where versions differ is listed in `api`."""

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


def _parser_problem(parser: trt.OnnxParser) -> str:
    """The parser's first error in one line."""
    if not parser.num_errors:
        return "it gave no reason"
    error: trt.ParserError = parser.get_error(0)
    node = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    return " ".join(f"{node}{error.desc()}".split())[:400]
