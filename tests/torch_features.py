"""What not every torch has, as reasons to skip: the original OpenMMLab packages run on torch 2.1.

Tests of it are marked with one of these, and say what is missing in the summary of skipped tests.
"""

import pytest
import torch

from mmdwnet.engine.exporting import NEEDED_TORCH


def _computes_in_float16():
    try:
        torch.ones(1, 1, 1, 1, dtype=torch.float16).matmul(torch.ones(1, 1, 1, 1, dtype=torch.float16))
        torch.nn.functional.conv2d(*[torch.ones(1, 1, 1, 1, dtype=torch.float16)] * 2)
    except RuntimeError:
        return False
    return True


def _needs(what, there):
    return pytest.mark.skipif(not there, reason=f'torch {torch.__version__} has no {what}')


needs_cpu_float16 = _needs('float16 convolutions on a CPU', _computes_in_float16())
needs_cpu_float16_autocast = _needs('float16 autocast on a CPU', hasattr(torch.amp, 'GradScaler'))
needs_opcheck = _needs('torch.library.opcheck', hasattr(torch.library, 'opcheck'))
needs_compiled_function = _needs(  # the two came together
    'torch.compile of an autograd.Function with setup_context', hasattr(torch.compiler, 'is_compiling')
)
needs_compiled_autocast = _needs('torch.compile inside an autocast region', hasattr(torch, 'get_autocast_dtype'))
needs_onnx_exporter = _needs(
    'exporter to ONNX for free image sizes', tuple(map(int, torch.__version__.split('.')[:2])) >= NEEDED_TORCH
)
needs_export = _needs('torch.export with free sizes', hasattr(torch.export, 'Dim'))

HALF_DTYPES = [torch.bfloat16, pytest.param(torch.float16, marks=needs_cpu_float16)]
