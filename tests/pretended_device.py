"""A device that is none: tensors "on" it live in main memory, and meet those that do not as on a GPU, with an error.

For tests of code that shall run on CUDA, where there is none. `with pretended() as device:` gives a device for
`.to(device)` and factories; values are those of the CPU, so that a run on it must give the bits of a run there.
Numbers of one element and indices may come from the CPU, as CUDA allows.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("meta")  # what torch has without a driver
aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class OnDevice(torch.Tensor):
    """A tensor that says to be elsewhere, about one in main memory."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """As of a tensor on a GPU; torch refuses it to its sub-classes."""
        return self.inner.tolist()

    def __getitem__(self, index: Any) -> Any:
        def made(part: Any) -> Any:  # torch would make an empty index of its own meta device
            return torch.tensor(part) if isinstance(part, list | tuple) else part

        return super().__getitem__(tuple(map(made, index)) if isinstance(index, tuple) else made(index))

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _outer(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnDevice) else value


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation in main memory; its result is there too if it is moved there, or nothing of it was elsewhere."""
    flat = pytree.tree_leaves((args, kwargs))
    asked = kwargs.get("device")
    if asked is None and not any(isinstance(v, OnDevice) for v in flat):
        return func(*args, **kwargs)
    there = {**kwargs, "device": torch.device("cpu")} if asked is not None else kwargs
    values = [v for v in flat if isinstance(v, torch.Tensor)]
    away = [v for v in values if isinstance(v, OnDevice)]
    assert not any(v.device == DEVICE and not isinstance(v, OnDevice) for v in values), f"{func}: no values"
    looked_at = pytree.tree_leaves((args[0], args[2:])) if func in INDEXED else values
    here = [v for v in looked_at if isinstance(v, torch.Tensor) and not isinstance(v, OnDevice) and v.dim() > 0]
    elsewhere = [v for v in looked_at if isinstance(v, OnDevice)]
    if func not in MOVES and here and (elsewhere or (away and func not in INDEXED)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, some are and some are not")
    if func in INDEXED and away and not elsewhere:
        raise RuntimeError(f"{func}: indices should be on the CPU or on the device of the indexed tensor")
    result = func(*pytree.tree_map(_inner, args), **pytree.tree_map(_inner, there))
    if func is aten.copy_.default:
        return args[0]
    if asked is not None:
        return pytree.tree_map(_outer, result) if torch.device(asked) == DEVICE else result
    return return_and_correct_aliasing(func, args, kwargs, pytree.tree_map(_outer, result))


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


class _Tensors(TorchFunctionMode):
    """`torch.tensor` and `new_tensor` come to the factories below as an empty tensor of torch's own meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnDevice):
            return args[0].inner.new_tensor(*args[1:], **kwargs).to(DEVICE)
        if func is torch.tensor and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        return func(*args, **kwargs)


@contextlib.contextmanager
def pretended() -> Iterator[torch.device]:
    """The device, while the context lasts."""
    with _Factories(), _Tensors():
        yield DEVICE
