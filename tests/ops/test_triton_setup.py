"""The Triton kernels without a GPU: on the interpreter, compiled ahead of time, and where Triton is missing."""

import contextlib
import re
import subprocess

import pytest
import torch

from mmdwnet.ops import triton_support
from mmdwnet.ops.triton_support import as_channels_last, availability

SHARED_MEMORY = 99 * 1024  # bytes that a program may have where there is least, of compute capability 8.6 and 8.9
COMPILED = availability('cuda') is None and availability('cpu') is not None
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='test_triton_kernels.py runs on the GPU here')
compiles = pytest.mark.skipif(not COMPILED, reason=availability('cuda') or 'Triton interprets the kernels')


@without_gpu
@compiles
def test_the_kernels_on_the_interpreter(run_python):
    result = run_python(
        '-m', 'pytest', '-q', '--no-header', '-p', 'no:cacheprovider', '-p', 'no:warnings',
        'tests/ops/test_triton_kernels.py', TRITON_INTERPRET='1',
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    ran = re.search(r'(\d+) passed(?:, (\d+) skipped)?', result.stdout)
    assert ran and int(ran[1]) > 10 * int(ran[2] or 0), result.stdout


def test_why_not_is_said(monkeypatch):
    if COMPILED:
        assert 'TRITON_INTERPRET=1' in availability('cpu')
    monkeypatch.setattr(triton_support, 'find_spec', lambda name: None)
    assert availability('cuda') == 'Triton is not installed: pip install triton'


def test_an_old_triton_is_named(monkeypatch):
    pytest.importorskip('triton')
    monkeypatch.setattr('triton.__version__', '3.1.0')
    assert availability('cuda') == 'Triton 3.1.0 is too old: 3.6 or later is needed'


@compiles
def test_what_triton_needs_to_launch_a_kernel_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(triton_support.sysconfig, 'get_paths', lambda: {'include': str(tmp_path)})
    assert 'no Python.h' in availability('cuda')
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'no C compiler: install gcc' in availability('cuda')


def test_the_ops_work_without_triton(run_python):
    code = (
        'import sys; sys.modules["triton"] = None; import mmdwnet.ops; print(*mmdwnet.ops.available_impls("cuda"))'
    )
    result = run_python('-c', code)
    assert result.returncode == 0, result.stderr
    assert 'reference' in result.stdout and 'triton' not in result.stdout


def test_a_crop_is_read_in_place():
    x = torch.empty(2, 7, 9, 6).permute(0, 3, 1, 2)  # channels_last (2, 6, 7, 9)
    assert as_channels_last(x[:, :, 1:5, :4]) is not x
    for view in (x, x[1:], x[:, :, 1:5, :4]):
        assert as_channels_last(view).data_ptr() == view.data_ptr()
    assert as_channels_last(x[..., ::2]).data_ptr() != x.data_ptr()


class _Hopper:
    """A driver of Triton's for a GPU that is not there: enough to compile for it."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget('cuda', 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@contextlib.contextmanager
def _compiling_only(monkeypatch, cache):
    """Make launches compile for sm_90 and collect what they compiled: name, kernel."""
    import triton
    from triton.runtime.jit import JITFunction

    kernels, run = [], JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        kernels.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    with monkeypatch.context() as patches:
        patches.setattr(JITFunction, 'run', compile_only)
        patches.setattr(triton.knobs.cache, 'dir', str(cache))
        patches.setattr(triton.runtime.driver, '_active', _Hopper())
        yield kernels


def _resources(kernel, path):
    """Registers per thread, and bytes of stack per thread, on which spilled registers lie."""
    import triton

    path.write_bytes(kernel.asm['cubin'])
    command = [triton.knobs.nvidia.cuobjdump.path, '-res-usage', str(path)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r'REG:(\d+) STACK:(\d+)', usage).groups())


@without_gpu
@compiles
@pytest.mark.parametrize(
    ('dtype', 'channels', 'side'), [(torch.bfloat16, 96, 56), (torch.bfloat16, 768, 7), (torch.float32, 384, 14)]
)
def test_the_kernels_compile_for_hopper(monkeypatch, tmp_path, dtype, channels, side):
    """7 x 7 kernels in 32 groups, in stages of DWNet-T: they fit; in half precision nothing spills."""
    from mmdwnet.ops import triton_dynamic, triton_generated, triton_inhomogeneous

    def empty(*shape):
        return torch.empty(shape, dtype=dtype)

    def empty_map(channels):
        return empty(2, side, side, channels).permute(0, 3, 1, 2)

    x, feature = empty_map(channels), empty_map(channels // 4)
    by_tap = empty(2, side, side, 32, 7, 7).permute(0, 3, 4, 5, 1, 2)
    by_group = empty(2, side, side, 7, 7, 32).permute(0, 5, 3, 4, 1, 2)
    kernels, bias = empty(2, channels, 7, 7), empty(channels)
    generator = empty(32 * 49, channels // 4), empty(32 * 49)
    with _compiling_only(monkeypatch, tmp_path) as compiled:
        triton_dynamic.forward(x, kernels, bias)
        triton_dynamic.backward(x, x, kernels)
        for weight in (by_tap, by_group):
            triton_inhomogeneous.forward(x, weight)
            triton_inhomogeneous.backward(x, x, weight)
        triton_generated.forward(x, feature, *generator, 32, 7)
        triton_generated.backward(x, x, feature, *generator, 32, 7)
    assert len(compiled) == 3 + 2 * 3 + 4
    for kernel in compiled:
        registers, stack = _resources(kernel, tmp_path / 'kernel.cubin')
        shared = kernel.metadata.shared
        print(f'{dtype} C={channels} {kernel.metadata.name}: {registers=} {stack=} {shared=}')
        assert shared <= SHARED_MEMORY
        assert stack <= (0 if dtype == torch.bfloat16 else 512)
