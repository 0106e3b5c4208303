"""Reading a checkpoint file that nobody vouches for: tensors and plain values come out, code is never run.

Every file comes in here, whoever wrote it, and is held to this before anyone looks inside:

    PyTorch's unpickler for weights alone    whatever the environment says (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD)
    an archive's records                     stored as they are, together no larger than the file, checksums right
    tensors                                  dense, on the CPU, of a number type, no larger than the file
    plain values                             none nested deeper than MAX_DEPTH
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seg_models.messages import one_line, shown

MAX_DEPTH = 24  # Lightning's checkpoints nest 8 deep
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)


class CheckpointError(ValueError):
    """A file that cannot be read safely, or that does not hold exactly the weights of the model."""


def read_content(path: str | Path) -> Any:
    """What a .safetensors or a PyTorch file holds, read without running any code in it.

    Raises:
        CheckpointError: no such file, not a PyTorch file, truncated or changed since it was written, or one that holds more
            than tensors and plain values. One line that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_pytorch(path)
        _check_values(content, path.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error
    except pickle.UnpicklingError as error:
        reason = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        detail = f"it asks for {reason[1]}" if reason else "it is damaged or no PyTorch file"
        raise CheckpointError(
            f"{path} is no readable checkpoint: {detail}; expected tensors and plain values alone"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way: KeyError, RecursionError, MemoryError, ...
        detail = one_line(str(error).partition("\n")[0], 200) or type(error).__name__
        raise CheckpointError(f"{path} is no readable checkpoint, damaged or no PyTorch file: {detail}") from error
    return content


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a file, see `read_content` and `unwrap`.

    Raises:
        CheckpointError: what these two refuse.
    """
    return unwrap(read_content(path), str(path))


# Where training frameworks keep a state dict. Averaged weights come first: they are the ones that authors evaluate.
_WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model", "module")


def unwrap(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict inside a training framework's file, under one of _WRAPPERS, of which two may be nested, or at the top.

    Raises:
        CheckpointError: there is none.
    """
    for _ in range(2):  # no more: a file may hold a dictionary that holds itself
        if isinstance(content, Mapping):
            wrapped_in = (content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping))
            content = next(wrapped_in, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{where} holds {type(content).__name__}; expected a dictionary of tensors")
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if not strange and not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{where} holds tensors under {shown(next(iter(content)))}; expected names")
    if strange:
        raise CheckpointError(
            f"{where} holds {shown(strange[0])}, which is no tensor; expected a dictionary of tensors"
        )
    wrapped = all(key.startswith("module.") for key in content)  # by DataParallel
    return {key.removeprefix("module.") if wrapped else key: value for key, value in content.items()}


def _read_pytorch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        _check_archive(path)
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the age of a file's format
        return torch.load(path, map_location="cpu", weights_only=True)  # the Namespace: training options


def _check_archive(path: Path) -> None:
    """PyTorch does not look at the checksums of its archives, and unpacks what another program has packed."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        packed = next((record for record in records if record.compress_type != zipfile.ZIP_STORED), None)
        if packed or sum(record.file_size for record in records) > path.stat().st_size:
            raise CheckpointError("its records are compressed or overlap; expected a file of torch.save")
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(f"the checksum of its record {shown(damaged)} is wrong; it is damaged, get it again")


def _check_values(content: Any, file_size: int) -> None:
    """Raise CheckpointError unless all of a file's content is as this module promises."""
    level = [content]
    seen: set[int] = set()  # a file may hold a dictionary that holds itself
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                _check_tensor(value, file_size)
            elif (
                isinstance(value, Mapping | list | tuple | set | frozenset | argparse.Namespace)
                and id(value) not in seen
            ):
                seen.add(id(value))
                holder = vars(value) if isinstance(value, argparse.Namespace) else value
                inner += holder.values() if isinstance(holder, Mapping) else holder
        if not inner:
            return
        level = inner
    raise CheckpointError(f"it holds values nested more than {MAX_DEPTH} deep")


def _check_tensor(tensor: Tensor, file_size: int) -> None:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in DTYPES:
        raise CheckpointError(
            f"it holds a tensor of {tensor.dtype}, {tensor.layout} on {tensor.device}; expected dense numbers"
        )
    if tensor.numel() * tensor.element_size() > file_size:
        raise CheckpointError(
            f"it holds a tensor of {shown(tuple(tensor.shape))}, which is more than the file of {file_size:,} bytes"
        )
