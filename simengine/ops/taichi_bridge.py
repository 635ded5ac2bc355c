"""What a bridge to Taichi kernels needs: a running Taichi, and tensors that its kernels take.

Taichi starts on the first use, on the architecture of the tensors' device: many-core CPUs, CUDA, Metal (torch's
`mps`). `TI_ARCH` (`x64`, `vulkan`, `cuda`, `metal`), Taichi's own variable, overrides it: Vulkan, which torch has no
device for, is `SIMENGINE_KERNELS=taichi TI_ARCH=vulkan` with tensors on the CPU, which each launch copies there and
back.
"""

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch


def start(device: torch.device | str = "cpu", *, num_threads: int | None = None) -> Any:
    """The module `taichi`, started: as it runs already, otherwise for tensors on `device`.

    Args:
        device: Where the tensors lie.
        num_threads: Threads on a CPU; None for torch's own number, so that one setting governs both.

    Raises:
        RuntimeError: Taichi is not installed.
    """
    ti = _module()
    if ti.lang.impl.get_runtime().prog is None:
        arch = {"cuda": ti.cuda, "mps": ti.metal}.get(torch.device(device).type, ti.cpu)
        threads = num_threads or torch.get_num_threads()
        with contextlib.redirect_stdout(io.StringIO()), _quiet():  # a banner, where a command's result goes
            ti.init(arch=arch, cpu_max_num_threads=threads, log_level=ti.ERROR, fast_math=False)
    return ti


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning about an old function of `locale` that Taichi uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@functools.cache
def _module() -> Any:
    os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")  # another banner
    try:
        with _quiet():
            import taichi  # half a second: only where it is used
    except ImportError as error:
        raise RuntimeError(
            "the Taichi kernels need taichi: pip install 'simengine[taichi]' (none for Python 3.14), "
            "or use SIMENGINE_KERNELS=warp"
        ) from error
    return taichi


def scalar(tensor: torch.Tensor) -> Any:
    """The Taichi scalar type of a float tensor.

    Raises:
        TypeError: The tensor is neither float32 nor float64, or the running device has no float64.
    """
    ti = start(tensor.device)
    if tensor.dtype == torch.float32:
        return ti.f32
    if tensor.dtype == torch.float64:
        if ti.lang.impl.current_cfg().arch == ti.metal:
            raise TypeError("Metal has no float64; convert with .float()")
        return ti.f64
    raise TypeError(f"kernels take float32 or float64 tensors, got {tensor.dtype}; convert with .float() or .double()")
