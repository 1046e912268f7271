"""Automatic mixed precision, on GPUs and CPUs: bfloat16, or float16 with loss scaling when it is asked for.

bfloat16 has the range of float32, so nothing overflows and no loss is scaled. Kept in float32 whatever the type:

- the losses: on a CPU, autocast leaves log_softmax, and with it mmpretrain's losses, in half precision;
- boxes: at 1000 pixels neighbouring numbers are 4 apart in bfloat16 and 0.5 in float16;
- the ops that mmcv compiles: they have no kernel for bfloat16;
- what DWNet keeps so, in its mixers, beside the reason.

mmengine's own AmpOptimWrapper refuses to run without an accelerator; the one here takes its place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper as AcceleratorAmpOptimWrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.utils import apply_to
from torch import Tensor, nn

from ..errors import UserError
from ..ops.cpu import onednn_computes
from ..registry import HOOKS, OPTIM_WRAPPERS

AMP_DTYPES = ('bfloat16', 'float16')  # the first is the default
AMP_WRAPPER = 'mmdwnet.AmpOptimWrapper'


def set_amp(optim_wrapper: ConfigDict, dtype: str | None) -> None:
    """Make the config of an optimizer wrapper one that trains with mixed precision.

    Args:
        optim_wrapper: changed in place; what it says of clipping and accumulation stays.
        dtype: 'bfloat16' or 'float16'; None keeps what the config says, or the default.
    """
    optim_wrapper.type = AMP_WRAPPER
    if dtype:
        optim_wrapper.dtype = dtype
    if optim_wrapper.get('dtype', AMP_DTYPES[0]) != 'float16':
        optim_wrapper.pop('loss_scale', None)  # of a config for float16


def add_amp_test(cfg: Config, dtype: str | None) -> None:
    """Make a config test with mixed precision.

    Args:
        cfg: changed in place.
        dtype: 'bfloat16' or 'float16', None for the default.

    Raises:
        UserError: the device cannot run it.
    """
    dtype = dtype or AMP_DTYPES[0]
    check_amp_dtype(dtype, get_device())
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), dict(type='mmdwnet.AmpTestHook', dtype=dtype)]


def check_amp_dtype(dtype: str, device: str) -> None:
    """Raise UserError unless autocast can run `dtype` on a device such as 'cuda' or 'cpu'."""
    if dtype not in AMP_DTYPES:
        raise UserError(f'mixed precision in {dtype!r}: expected one of {", ".join(AMP_DTYPES)}')
    if dtype == 'bfloat16' and device == 'cuda' and not _gpu_has_bfloat16():
        raise UserError(
            f'{torch.cuda.get_device_name()} has no bfloat16, the default of mixed precision here: add '
            '--amp-dtype float16'
        )
    if dtype == 'float16' and device == 'cpu' and not hasattr(torch.amp, 'GradScaler'):
        raise UserError(f'torch {torch.__version__} has no float16 autocast on a CPU: use --amp-dtype bfloat16')


def warn_of_emulation(dtype: torch.dtype, device: str) -> None:
    """Say so where half precision makes a run slower: on a CPU without instructions for it."""
    if device == 'cpu' and not onednn_computes(dtype):
        name = str(dtype).removeprefix('torch.')
        print_log(
            f'torch has no fast {name} on this CPU: mixed precision takes longer than float32, networks that are '
            'no DWNet ten times as long; leave it out, in the config or on the command line',
            'current',
            logging.WARNING,
        )


def _gpu_has_bfloat16() -> bool:
    # torch.cuda.is_bf16_supported() counts emulation too
    return torch.version.hip is not None or torch.cuda.get_device_capability() >= (8, 0)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(AcceleratorAmpOptimWrapper):
    """Train in mixed precision on whatever device there is.

    Args:
        dtype: 'bfloat16' or 'float16', what matrix products and convolutions run in; parameters and the
            optimizer's state stay in float32.
        loss_scale: of float16, 'dynamic' or the arguments of torch's GradScaler, as in mmengine; bfloat16 has the
            range of float32 and needs none.
        **kwargs: those of mmengine's OptimWrapper: optimizer, accumulative_counts, clip_grad.

    Raises:
        UserError: the device cannot run `dtype`.
        ValueError: a loss scale with bfloat16, or one that is neither 'dynamic', a number nor a dict.
    """

    def __init__(self, dtype: str = AMP_DTYPES[0], loss_scale: str | float | dict | None = None, **kwargs: Any):
        OptimWrapper.__init__(self, **kwargs)  # the parent's asks for an accelerator and a scaler
        self.device = get_device()
        check_amp_dtype(dtype, self.device)
        self.cast_dtype = getattr(torch, dtype)
        warn_of_emulation(self.cast_dtype, self.device)
        scaled = dtype == 'float16'
        if loss_scale is not None and not scaled:
            raise ValueError(f'AmpOptimWrapper: loss_scale={loss_scale!r} with {dtype}, which needs none')
        if isinstance(loss_scale, str) and loss_scale != 'dynamic':
            raise ValueError(f"AmpOptimWrapper: loss_scale={loss_scale!r}: expected 'dynamic', a number or a dict")
        options = loss_scale if isinstance(loss_scale, dict) else {}
        self._scale_update_param = None
        if isinstance(loss_scale, (int, float)):
            self._scale_update_param = float(loss_scale)
            options = dict(init_scale=float(loss_scale))
        self.loss_scaler = _grad_scaler(self.device, enabled=scaled, **options)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Called once before the first step, with the model; see `keep_in_float32`."""
        keep_in_float32(model)
        super().initialize_count_status(model, init_counts, max_counts)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a forward pass: autocast, and no gradient synchronisation while gradients accumulate."""
        # the parent's autocast has no float16 on a CPU
        with OptimWrapper.optim_context(self, model), torch.autocast(self.device, self.cast_dtype):
            yield

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of a run in this or another precision; without a loss scale in it, that starts afresh."""
        if not state_dict.get('loss_scaler'):
            state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)


def _grad_scaler(device: str, **options) -> torch.cuda.amp.GradScaler:
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(device, **options)
    return torch.cuda.amp.GradScaler(**options)  # torch before 2.3


def keep_in_float32(model: nn.Module) -> None:
    """Keep in float32, from now on, what half precision would spoil or cannot compute in a model of OpenMMLab's.

    In mmpretrain, mmdet and mmseg a loss is an attribute `loss*` of a head. In mmdet what a head returns decides
    the type of the anchors that its boxes are made from, and a RoI extractor gives boxes the type of its maps.
    """
    for name, module in model.named_modules():
        loss = any(part.startswith('loss') for part in name.split('.'))
        compiled = type(module).__module__.startswith('mmcv.ops')
        if loss or compiled or hasattr(module, 'roi_layers'):
            module.register_forward_pre_hook(_float32_inputs, with_kwargs=True)
        if hasattr(module, 'bbox_coder') or hasattr(module, 'prior_generator'):
            module.register_forward_hook(_float32_output)


def _float32_inputs(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return _in_float32(args), _in_float32(kwargs)


def _float32_output(module: nn.Module, args: tuple, output: Any) -> Any:
    return _in_float32(output)


def _in_float32(value: Any) -> Any:
    return apply_to(value, _is_half, Tensor.float)


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


@HOOKS.register_module()
class AmpTestHook(Hook):
    """Test in mixed precision; the loops of mmengine choose the type by themselves.

    Args:
        dtype: 'bfloat16' or 'float16'.
    """

    def __init__(self, dtype: str = AMP_DTYPES[0]):
        self.dtype = getattr(torch, dtype)

    def before_test(self, runner: Runner) -> None:
        autocast_test_step(runner.model, self.dtype, get_device())


def autocast_test_step(model: nn.Module, dtype: torch.dtype, device: str) -> None:
    """Have a model's `test_step` run in mixed precision from now on, with results in float32.

    Args:
        model: of mmpretrain, mmdet or mmseg.
        dtype: torch.bfloat16 or torch.float16.
        device: kind of device that it is on, such as 'cuda'.
    """
    warn_of_emulation(dtype, device)
    keep_in_float32(model)
    test_step = model.test_step

    def step(data: Any) -> Any:
        with torch.autocast(device, dtype):
            results = test_step(data)
        for result in results:
            _results_in_float32(result)
        return results

    model.test_step = step


def _results_in_float32(element: BaseDataElement) -> None:
    """Metrics turn predictions into numpy arrays, and numpy has no bfloat16."""
    for name, value in element.items():
        if isinstance(value, BaseDataElement):
            _results_in_float32(value)
        elif _is_half(value):
            setattr(element, name, value.float())
