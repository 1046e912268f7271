"""Unpickle what a checkpoint holds without running anything that it says.

A pickle is a program: it names functions and has them called. Here the names that PyTorch and mmengine write lead
to this file's own functions, which make tensors, arrays and containers and nothing else; any other name leads to
an inert placeholder, and what the file would do with it (call it, give it a state) makes another one.

torch.load(weights_only=True) has the same purpose, but cannot take its place: before torch 2.4 its list cannot be
extended, and mmengine's records need entries; those that mmengine gives it since (`get_torch_safe_globals`) hold
the plain `getattr`, which leads from any class into the modules behind it. It has no placeholders either.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from torch import Tensor


class Inert:
    """What stands for a global that a file names: a name, and, on the list, what makes its objects.

    It takes whatever a pickle puts into an object, and keeps none of it.
    """

    __slots__ = ('make', 'name')

    def __init__(self, name: str, make: Callable[..., Any] | None = None):
        self.name = name
        self.make = make

    def append(self, value: Any) -> None:
        """Take what the opcodes that fill lists, sets and dicts bring."""

    extend = add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _RefusedError(Exception):
    """A listed function with arguments that it is not listed for; the message names it."""


class SafeUnpickler(pickle._Unpickler):  # the one in Python: the one in C lets no opcode be overridden
    """Reads one pickle from a file object.

    Args:
        file: where the pickle starts.
        refused: names that the pickle uses and that are not on the list are put in here, each once, in order.
        load_tensor: what a persistent id, by which PyTorch refers to the numbers of a tensor, leads to: a 1-D
            tensor.
    """

    def __init__(self, file: BinaryIO, refused: list[str], load_tensor: Callable[[Any], Any] | None = None):
        super().__init__(file, encoding='utf-8')
        self.refused = refused
        self._load_tensor = load_tensor

    def find_class(self, module: str, name: str) -> Any:
        """Return the value, function or placeholder that stands for a global; nothing is imported."""
        full = f'{_PRESENT_NAMES.get(module, module)}.{name}'
        if full in _VALUES:
            return _VALUES[full]
        if full not in _MAKERS:
            self._refuse(full)
        return Inert(full, _MAKERS.get(full))

    def persistent_load(self, pid: Any) -> Any:
        """Return the numbers that a persistent id stands for."""
        if self._load_tensor is None:
            raise pickle.UnpicklingError('a persistent id where none belongs')
        return self._load_tensor(pid)

    def get_extension(self, code: int) -> None:
        """Refuse extension codes: they stand for names of a registry of this process."""
        raise pickle.UnpicklingError(f'extension code {code}')

    def _refuse(self, name: str) -> Inert:
        if name not in self.refused:
            self.refused.append(name)
        return Inert(name)

    def _made(self, function: Any, args: tuple) -> Any:
        """What calling `function` on `args` is to give."""
        if not isinstance(function, Inert):
            return self._refuse(f'a call of a {type(function).__name__}')
        if function.make is None or any(isinstance(arg, Inert) and arg.make is None for arg in args):
            return Inert(function.name)
        try:
            return function.make(*args)
        except _RefusedError as error:
            return self._refuse(str(error))

    def _instantiate(self, function: Any, args: list) -> None:
        self.append(self._made(function, tuple(args)))

    def _load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], tuple(args))

    def _load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments, which no listed class is made with
        self._load_reduce()

    def _load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, Inert):
            return
        set_state = next((set_state for kind, set_state in _STATES.items() if isinstance(made, kind)), None)
        if set_state is None:
            self._refuse(f'the state of a {type(made).__name__}')
        else:
            set_state(made, state)

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _load_reduce,
        pickle.NEWOBJ[0]: _load_reduce,
        pickle.NEWOBJ_EX[0]: _load_newobj_ex,
        pickle.BUILD[0]: _load_build,
    }


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None) -> Tensor:
    if metadata:  # lazily conjugated or negated complex numbers
        raise _RefusedError('torch._utils._rebuild_tensor_v2 with metadata')
    inside = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) < storage.numel()
    if min((offset, *size, *stride)) < 0 or not (inside or 0 in size):
        raise pickle.UnpicklingError('a tensor that lies outside its storage')
    tensor = torch.as_strided(storage, size, stride, offset)
    return tensor.requires_grad_(bool(requires_grad))


def _tensor_of_dtype(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None) -> Tensor:
    return _tensor(storage.view(dtype), offset, size, stride, requires_grad, hooks, metadata)


def _parameter(data, requires_grad, hooks) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad=bool(requires_grad))


def _latin1(text: str, encoding: str = 'latin1') -> bytes:
    """Protocol 2 writes bytes as text to be encoded."""
    if encoding != 'latin1':
        raise _RefusedError(f'_codecs.encode to {str(encoding)[:20]!r}')
    return text.encode('latin1')


def _attribute(owner: Any, name: str) -> Any:
    """Protocol 2 writes the methods that mmengine's records hold as attributes of their class."""
    full = f'{owner.name}.{name}' if isinstance(owner, Inert) else ''
    if full not in _VALUES:
        raise _RefusedError('builtins.getattr')
    return _VALUES[full]


def _never(*args: Any) -> None:
    raise _RefusedError('a call of a class of mmengine that is only named')


def _dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    """Numbers only: dtypes of objects or with fields have states that numpy does not check."""
    if not re.fullmatch(r'[<>=|]?[biufc]\d{1,2}', code):
        raise _RefusedError(f'numpy.dtype {code[:20]!r}')
    return np.dtype(code, copy=True)


def _set_dtype_state(dtype: np.dtype, state: tuple) -> None:
    order = state[1]
    if order not in ('<', '>', '=', '|'):
        raise pickle.UnpicklingError('a numpy dtype of no byte order')
    dtype.__setstate__((3, order, None, None, None, -1, -1, 0))


def _scalar(dtype: np.dtype, raw: bytes) -> np.generic:
    return np.frombuffer(raw, dtype, count=1)[0]


def _empty_array(kind: Any, shape: tuple, code: bytes) -> np.ndarray:
    return np.empty(0, np.int8)  # its state, which follows, has shape, dtype and numbers


def _set_array_state(array: np.ndarray, state: tuple) -> None:
    _, shape, dtype, is_fortran, raw = state
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError('a numpy array that is not of numbers')
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
        raise pickle.UnpicklingError('a numpy array of another size than its numbers')
    array.__setstate__((1, tuple(shape), dtype, bool(is_fortran), raw))


def _set_history_state(buffer: HistoryBuffer, state: dict) -> None:
    # mmengine's __setstate__ would also enter the file's statistics into a table of the class
    buffer.__init__(state['_log_history'], state['_count_history'], state['max_length'])


def _set_versions(state_dict: OrderedDict, state: dict) -> None:
    """Module versions, which PyTorch hangs on a state dict as an attribute."""
    if isinstance(state.get('_metadata'), dict):
        state_dict._metadata = state['_metadata']


_PRESENT_NAMES = {
    '__builtin__': 'builtins',  # Python 2's, in which protocol 2 is written
    'numpy.core.multiarray': 'numpy._core.multiarray',  # numpy 1's
    'torch.tensor': 'torch._tensor',
}
_VALUES = {f'torch.{name}': value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_VALUES |= {
    f'{module}.{name}Storage': dtype
    for module in ('torch', 'torch.cuda', 'torch.storage')
    for name, dtype in dict(
        Double=torch.float64,
        Float=torch.float32,
        Half=torch.float16,
        BFloat16=torch.bfloat16,
        Long=torch.int64,
        Int=torch.int32,
        Short=torch.int16,
        Char=torch.int8,
        Byte=torch.uint8,
        Bool=torch.bool,
        ComplexFloat=torch.complex64,
        ComplexDouble=torch.complex128,
        Untyped=torch.uint8,
    ).items()
}
# methods that a record of a history and the state of a scheduler hold
_VALUES |= {
    f'{kind.__module__}.{kind.__name__}.{name}': getattr(kind, name)
    for kind, names in (
        (HistoryBuffer, ('min', 'max', 'current', 'mean')),
        (OneCycleParamScheduler, ('_annealing_cos', '_annealing_linear')),
    )
    for name in names
}
_MAKERS: dict[str, Callable[..., Any]] = {
    'builtins.set': set,
    'builtins.frozenset': frozenset,
    'builtins.slice': slice,
    'builtins.complex': complex,
    'builtins.getattr': _attribute,
    '_codecs.encode': _latin1,
    'collections.OrderedDict': OrderedDict,
    'collections.deque': deque,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_dtype,
    'torch._utils._rebuild_parameter': _parameter,
    'numpy.ndarray': _empty_array,
    'numpy.dtype': _dtype,
    'numpy._core.multiarray._reconstruct': _empty_array,
    'numpy._core.multiarray.scalar': _scalar,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    'mmengine.config.config.ConfigDict': ConfigDict,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': _never,
}
_STATES: dict[type, Callable[[Any, Any], None]] = {
    OrderedDict: _set_versions,
    np.ndarray: _set_array_state,
    np.dtype: _set_dtype_state,
    HistoryBuffer: _set_history_state,
}
