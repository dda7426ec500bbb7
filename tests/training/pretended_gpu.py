"""A machine that pretends to have a GPU, so that tests see whether all tensors of a training are on one device."""

import torch
from torch.overrides import TorchFunctionMode

# From one device to another, or of no matter which.
_ACROSS = (torch.Tensor.copy_, torch.Tensor.data.__set__, torch._has_compatible_shallow_copy_type)


class PretendedGpu(TorchFunctionMode):
    """Tensors stay on the CPU but say that they are where they were put; as with CUDA, no operation mixes devices."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            return torch.device(_place(args[0]))
        put = [str(arg) for arg in (*args[1:], kwargs.get("device")) if _is_device(arg)]
        put += ["cpu"] * (func == torch.Tensor.cpu)
        args = (*args[:1], *("cpu" if _is_device(arg) else arg for arg in args[1:]))
        kwargs = {name: "cpu" if _is_device(arg) else arg for name, arg in kwargs.items()}
        # CUDA takes numbers without a dimension from the CPU.
        places = {_place(tensor) for tensor in _tensors([args, kwargs]) if tensor.ndim or _place(tensor) != "cpu"}
        assert len(places) < 2 or func in _ACROSS, f"{func} takes tensors on {places}"
        assert func != torch.Tensor.numpy or places <= {"cpu"}, "only tensors on the CPU are arrays"
        out = func(*args, **kwargs)
        if func in _ACROSS:
            return out
        place = put[0] if put else next(iter(places), "cpu")
        if put and args and out is args[0] and place != _place(out):
            out = out.clone()
        for tensor in _tensors(out):
            tensor.untyped_storage().place = place
        return out


def _is_device(value):
    return isinstance(value, str | torch.device) and str(value) in ("cpu", "cuda")


def _place(tensor):
    return getattr(tensor.untyped_storage(), "place", "cpu")


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
