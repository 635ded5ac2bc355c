"""What every gradient bridge needs: Warp views of torch tensors, the stream to launch on, the backend to choose.

A bridge is a `torch.autograd.Function` whose forward and backward launch kernels. Kernel arrays exist nowhere else.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import warp as wp

from simengine.ops.kernel_cache import is_writable, temporary_cache

Backend = Literal["warp", "taichi", "reference"]


def _init() -> None:
    """Start Warp without its banner, and without its remark that a machine has no CUDA driver.

    The remark is written by native code straight to standard error, where a command's one line of message goes.
    """
    wp.config.log_level = wp.LOG_ERROR
    try:
        stderr = os.dup(2)
    except OSError:  # standard error is closed: there is nothing to keep clean
        _start()
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as capture:
        os.dup2(capture.fileno(), 2)
        try:
            _start()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        capture.seek(0)
        for line in capture.read().decode(errors="replace").splitlines():
            if "Could not find or load the NVIDIA CUDA driver" not in line:
                print(line, file=sys.stderr)


def _start() -> None:
    """`wp.init`, with the cache of compiled kernels elsewhere where its folder cannot be written."""
    try:
        wp.init()
    except OSError:  # a read-only home, as containers and clusters have
        wp.config.kernel_cache_dir = str(temporary_cache("warp"))
        wp.init()
    if not is_writable(wp.config.kernel_cache_dir):
        wp.config.kernel_cache_dir = str(temporary_cache("warp"))


_init()  # before the first from_torch: a CPU tensor raises AttributeError otherwise


class _Gate:
    """Launches side by side, captures alone.

    Warp has one capture for the whole process: a second one at the same time fails, and a launch from another thread
    would be recorded into the first one's graph.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._launching = self._waiting = 0
        self._owner: int | None = None  # the thread that captures

    def __enter__(self) -> None:
        """Before a launch."""
        if self._owner == threading.get_ident():
            return
        with self._lock:
            while self._owner is not None:
                self._changed.wait()
            self._launching += 1

    def __exit__(self, *error: object) -> None:
        """After a launch."""
        if self._owner == threading.get_ident():
            return
        with self._lock:
            self._launching -= 1
            if self._waiting:
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Around a capture, whose launches come from this thread."""
        with self._lock:
            self._waiting += 1
            while self._owner is not None or self._launching:
                self._changed.wait()
            self._waiting -= 1
            self._owner = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._owner = None
                self._changed.notify_all()


gate = _Gate()


def backend(*available: Backend, on: torch.Tensor | None = None) -> Backend:
    """The kernel language to use. The device of `on` decides, unless `SIMENGINE_KERNELS` overrides it.

    Warp goes to CPUs and CUDA devices, Taichi to any (`simengine.ops.taichi_bridge`), the reference in plain torch too.

    Args:
        available: Kernel languages the op has, best first; `"reference"` is always available.
        on: A tensor of the device to run on; None for a CPU or CUDA device.

    Raises:
        ValueError: `SIMENGINE_KERNELS` names no backend.
    """
    wanted = os.environ.get("SIMENGINE_KERNELS", "")
    if wanted not in ("", "warp", "taichi", "reference"):
        raise ValueError(f"SIMENGINE_KERNELS={wanted!r}: expected warp, taichi or reference")
    reachable = on is None or on.device.type in ("cpu", "cuda")
    possible = [name for name in (*available, "reference") if name != "warp" or reachable]
    return next((name for name in possible if name == wanted), possible[0])


def array(tensor: torch.Tensor, dtype: Any = None) -> wp.array:
    """A Warp view of a tensor's memory, without a gradient.

    Args:
        tensor: Contiguous tensor. A vector or matrix `dtype` takes up its trailing dimensions.
        dtype: Warp type of an element; None for the scalar of the tensor.
    """
    return wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False)


def scalar(tensor: torch.Tensor) -> type:
    """The Warp scalar type of a float tensor.

    Raises:
        TypeError: The tensor is neither float32 nor float64.
    """
    if tensor.dtype == torch.float32:
        return wp.float32
    if tensor.dtype == torch.float64:
        return wp.float64
    raise TypeError(f"kernels take float32 or float64 tensors, got {tensor.dtype}; convert with .float() or .double()")


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is infinite or NaN; a sum tells in a tenth of the time, unless it overflows by itself."""
    return bool(tensor.detach().sum().isfinite()) or bool(tensor.isfinite().all())


def launch(
    kernel: Any, dim: int | Sequence[int], inputs: Sequence[Any], outputs: Sequence[Any] = (), *, on: torch.Tensor
) -> None:
    """Launch a kernel on the device of `on`; on CUDA on torch's current stream, so no synchronisation is needed."""
    device = wp.device_from_torch(on.device)
    stream = wp.stream_from_torch(torch.cuda.current_stream(on.device)) if on.is_cuda else None
    with gate:
        wp.launch(kernel, dim=dim, inputs=list(inputs), outputs=list(outputs), device=device, stream=stream)


_commands: dict[tuple[Any, ...], wp.Launch] = {}


def call(kernel: Any, dim: int | tuple[int, ...], *arguments: torch.Tensor | float) -> None:
    """As `launch`, at a tenth of the cost: recorded once for numbers and shapes, then pointed at other tensors.

    Not for captures: a graph would keep the tensors' addresses.

    Args:
        kernel: The kernel.
        dim: Number of threads, along each axis; for 0 nothing is done.
        arguments: All of the kernel's: contiguous tensors, whose trailing dimensions are taken up by the vectors and
            matrices of its signature, and numbers. One tensor at least.
    """
    if not dim or (isinstance(dim, tuple) and 0 in dim):
        return
    tensors = [(k, a) for k, a in enumerate(arguments) if isinstance(a, torch.Tensor)]
    on = tensors[0][1].device
    numbers = tuple(a.shape if isinstance(a, torch.Tensor) else a for a in arguments)
    key = (kernel, dim, on, threading.get_ident(), numbers)
    command = _commands.get(key)
    if command is None:
        types, device = [arg.type for arg in kernel.adj.args], wp.device_from_torch(on)
        inputs = list(arguments)
        for k, a in tensors:  # the address alone: a command holds no memory
            shape = a.shape[: types[k].ndim]
            inputs[k] = wp.array(ptr=a.data_ptr(), dtype=types[k].dtype, shape=shape, device=device, copy=False)
        while len(_commands) >= 256:
            _commands.pop(next(iter(_commands)), None)  # another thread may have been faster
        with gate:
            command = _commands[key] = wp.launch(kernel, dim=dim, inputs=inputs, device=device, record_cmd=True)
    for k, a in tensors:
        command.params[k + 1].data = a.data_ptr()
    stream = wp.stream_from_torch(torch.cuda.current_stream(on)) if on.type == "cuda" else None
    with gate:
        command.launch(stream)
