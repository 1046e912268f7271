"""Parameters, multiply-adds and activations of any module, on mmengine's analyzers.

mmengine counts on a jit trace, which runs the network and gives up on code that computes with shapes. Here its
analyzers read a recording of the operations below autograd instead, made with tensors of the `meta` device, which
have a shape and no memory: a detector at 1280 x 800 takes a second and no arithmetic, and its weights are never
allocated.

The convention, which is mmengine's and gives the published digits:

- parameters: every parameter of the model, heads and auxiliary heads included;
- FLOPs: multiply-adds, one each, of convolutions, matrix products (also both of `scaled_dot_product_attention`)
  and this package's ops (`op_counts.py`); besides, 5 per element of a LayerNorm or GroupNorm, 2 of a BatchNorm, 4
  of a bilinear resize, 1 of a nearest one. Biases, activation functions, softmax, pooling, sums and copies count
  nothing;
- activations: the elements of the results of convolutions and matrix products (Radosavovic et al., "Designing
  Network Design Spaces", 2020), including the attention map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer, parameter_count
from mmengine.analysis.jit_analysis import JitModelAnalysis, Statistics
from mmengine.analysis.jit_handles import (
    addmm_flop_jit,
    batchnorm_flop_jit,
    bmm_flop_jit,
    conv_flop_count,
    elementwise_flop_counter,
    generic_activation_jit,
    get_shape,
    matmul_flop_jit,
    norm_flop_counter,
)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from . import op_counts


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one image.

    Args:
        params: parameters.
        flops: multiply-adds, by the convention at the top of this file.
        activations: elements of the results of convolutions and matrix products.
        uncounted: operations that no rule covers, and how often they ran. They count nothing, so a number beside
            a non-empty one is a lower bound.
    """

    params: int
    flops: int
    activations: int
    uncounted: tuple[tuple[str, int], ...] = ()


def count(model: nn.Module, *inputs: Tensor) -> Complexity:
    """Count what `model(*inputs)` costs, in eval mode and on the meta device.

    Args:
        model: any module; it is moved to the meta device, which drops its weights.
        inputs: tensors of any device; only their shapes and dtypes matter.

    Raises:
        NotImplementedError: an operation has no meta kernel; torch's message names it.
    """
    model.to('meta')
    model.eval()  # what it returns is None in some libraries
    recording = Recording(model, tuple(tensor.to('meta') for tensor in inputs))
    flops, activations = RecordedFlops(recording), RecordedActivations(recording)
    return Complexity(
        params=parameter_count(model)[''],
        flops=int(flops.total()),
        activations=int(activations.total()),
        uncounted=tuple(sorted(flops.unsupported_ops().items())),
    )


class without_weights(TorchFunctionMode):
    """Inside `with without_weights():` new modules get their parameters on the meta device, without memory.

    Constants computed by `arange`, `linspace` and the like stay on the CPU, for constructors read them.
    """

    _factories = frozenset((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn))

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in self._factories and kwargs.get('device') is None:
            kwargs = dict(kwargs, device='meta')
        return func(*args, **kwargs)


class Recording(TorchDispatchMode):
    """The operations of one forward pass, below autograd, with the modules that they ran in.

    Args:
        model: a module on the meta device.
        inputs: what to call it with.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...]):
        super().__init__()
        self.model, self.inputs = model, inputs
        self.nodes: list[_Node] = []
        self._scopes: list[str] = ['']
        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._scopes.append(name)))
            hooks.append(module.register_forward_hook(self._leave))
        try:
            # gradients on: nn.MultiheadAttention would otherwise run as one operation that hides its products
            with torch.enable_grad(), self:
                model(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._scopes.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.nodes.append(_Node(func._schema.name, args, out, frozenset(self._scopes)))
        return out


class _Node:
    """An operation of a recording: its kind, its values, and the names of the modules around it."""

    def __init__(self, kind: str, args: tuple, out: Any, scopes: frozenset[str]):
        self.kind = kind
        self.scopes = scopes
        self.inputs = [_Value(arg) for arg in args]
        self.outputs = [_Value(value) for value in (out if isinstance(out, (tuple, list)) else (out,))]


class _Value:
    """A value of a recording, with the interface of jit's values as far as mmengine's handlers read it."""

    def __init__(self, value: Any):
        self._shape = list(value.shape) if isinstance(value, Tensor) else None
        self._value = None if isinstance(value, Tensor) else value

    def isCompleteTensor(self) -> bool:
        return self._shape is not None

    def type(self) -> _Value:
        return self

    def sizes(self) -> list[int]:
        return self._shape

    def toIValue(self) -> Any:
        return self._value


class _Recorded(JitModelAnalysis):
    """mmengine's analysis over a recording in the place of a jit trace."""

    rules: dict[str, Callable] = {}

    def __init__(self, recording: Recording):
        super().__init__(recording.model, recording.inputs)
        self._recording = recording
        self.clear_op_handles().set_op_handle(**self.rules)

    def _analyze(self) -> Statistics:
        if self._stats is None:
            counts = {name: Counter() for name in self._named_modules}
            unknown = {name: Counter() for name in self._named_modules}
            for node in self._recording.nodes:
                rule = self._op_handles.get(node.kind)
                for name in node.scopes:
                    if rule is not None:
                        counts[name][node.kind] += rule(node.inputs, node.outputs)
                    elif node.kind not in FREE:
                        unknown[name][node.kind] += 1
            self._stats = Statistics(counts=counts, unsupported_ops=unknown, uncalled_mods=set())
        return self._stats


def _convolution_flops(inputs: list[_Value], outputs: list[_Value]) -> int:
    transposed = inputs[6].toIValue()
    return conv_flop_count(get_shape(inputs[0]), get_shape(inputs[1]), get_shape(outputs[0]), transposed)


def _attention_flops(inputs: list[_Value], outputs: list[_Value]) -> int:
    (*batch, queries, width), keys = get_shape(inputs[0]), get_shape(inputs[1])[-2]
    return prod(batch) * queries * keys * (width + get_shape(inputs[2])[-1])


def _attention_activations(inputs: list[_Value], outputs: list[_Value]) -> int:
    (*batch, queries, _), keys = get_shape(inputs[0]), get_shape(inputs[1])[-2]
    return prod(batch) * queries * (keys + get_shape(inputs[2])[-1])


# what `scaled_dot_product_attention` becomes where it is not made of matrix products
ATTENTION = tuple(
    f'aten::_scaled_dot_product_{kind}'
    for kind in ('flash_attention', 'flash_attention_for_cpu', 'efficient_attention', 'cudnn_attention')
)


class RecordedFlops(_Recorded, FlopAnalyzer):
    """mmengine's FlopAnalyzer over a recording: `total()`, `by_operator()`, `by_module()`."""

    rules = {
        'aten::convolution': _convolution_flops,
        'aten::addmm': addmm_flop_jit,
        'aten::mm': matmul_flop_jit,
        'aten::bmm': bmm_flop_jit,
        **dict.fromkeys(ATTENTION, _attention_flops),
        **op_counts.FLOPS,
        'aten::native_layer_norm': norm_flop_counter(2),
        'aten::native_group_norm': norm_flop_counter(1),
        'aten::native_batch_norm': batchnorm_flop_jit,
        'aten::upsample_bilinear2d': elementwise_flop_counter(0, 4),
        'aten::upsample_nearest2d': elementwise_flop_counter(0, 1),
    }


class RecordedActivations(_Recorded, ActivationAnalyzer):
    """mmengine's ActivationAnalyzer over a recording."""

    rules = {
        **dict.fromkeys(('aten::convolution', 'aten::addmm', 'aten::mm', 'aten::bmm'), generic_activation_jit()),
        **dict.fromkeys(ATTENTION, _attention_activations),
        **op_counts.ACTIVATIONS,
    }


# what counts nothing: views and copies, element-wise functions, reductions and pooling, new tensors
_FREE = """
_reshape_alias _to_copy _unsafe_view alias as_strided as_strided_ cat clone constant_pad_nd copy_ detach expand
fill_ flip im2col index index_put_ index_select lift_fresh masked_fill permute repeat roll select slice split
split_with_sizes squeeze stack t transpose unbind unsqueeze view _safe_softmax _softmax abs add add_ bernoulli_
clamp cos div div_ eq erf exp floor ge gelu gt hardsigmoid hardswish hardtanh leaky_relu log lt mul mul_
native_dropout ne neg pow relu relu_ rsqrt rsub sigmoid silu silu_ sin softplus sqrt square sub sub_ tanh unfold
where _adaptive_avg_pool2d adaptive_max_pool2d amax amin argmax avg_pool2d cumsum linalg_vector_norm max
max_pool2d_with_indices mean min std sum topk upsample_bicubic2d var var_mean arange bitwise_not empty empty_like
empty_strided full full_like linspace new_empty new_full new_ones new_zeros ones ones_like rand randn
promote_types scalar_tensor zeros zeros_like
"""
FREE = frozenset(f'aten::{name}' for name in _FREE.split())
