"""A branch under drop path: which samples keep it, what is added, in which dtype, and in how many passes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch_features import HALF_DTYPES, needs_cpu_float16

from mmdwnet import DWNet, IsotropicNet
from mmdwnet.backbones.layers import DropPathAdd

RATE = 0.3
DTYPES = [torch.float32, torch.float64, *HALF_DTYPES]
MIXED = [
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.bfloat16),
    pytest.param(torch.float32, torch.float16, marks=needs_cpu_float16),
    pytest.param(torch.float16, torch.bfloat16, marks=needs_cpu_float16),
]


on_every_device = pytest.mark.parametrize(
    'device',
    ['cpu', pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'))],
)


def maps(*dtypes, shape=(16, 6, 5, 7), memory_format=torch.channels_last, device='cpu'):
    """Residual and branch, leaves with a gradient."""
    generator = torch.Generator().manual_seed(0)
    for dtype in dtypes:
        values = torch.randn(shape, generator=generator).to(device, dtype, memory_format=memory_format)
        yield values.requires_grad_()


def seeded(add, x, branch, seed=0):
    torch.manual_seed(seed)
    return add(x, branch)


@on_every_device
@pytest.mark.parametrize('dtype', DTYPES)
def test_a_sample_keeps_its_branch_whole_and_scaled_or_loses_it(dtype, device):
    x, branch = maps(dtype, dtype, device=device)
    out = seeded(DropPathAdd(RATE), x, branch)
    grad = torch.randn_like(out)
    out.backward(grad)
    kept = (out != x).flatten(1).any(1)
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(out[~kept], x[~kept])
    # computed in float32 and rounded once
    expected = (x[kept].double() + branch[kept].double() / (1 - RATE)).to(dtype)
    torch.testing.assert_close(out[kept], expected)
    assert torch.equal(x.grad, grad)
    assert torch.equal(branch.grad[~kept], torch.zeros_like(branch.grad[~kept]))
    torch.testing.assert_close(branch.grad[kept], grad[kept] / (1 - RATE))


def test_samples_are_kept_at_the_rate_and_the_branch_stays_on_average():
    x, branch = torch.zeros(40_000, 1, 1, 1), torch.ones(40_000, 1, 1, 1)
    out = seeded(DropPathAdd(RATE), x, branch)
    assert (out > 0).float().mean().item() == pytest.approx(1 - RATE, abs=0.012)  # 5 standard deviations
    assert out.mean().item() == pytest.approx(1, abs=0.017)


@pytest.mark.parametrize('add', [DropPathAdd(0.0), DropPathAdd(RATE).eval()], ids=['rate 0', 'eval'])
def test_without_drop_path_it_is_the_sum_and_draws_nothing(add):
    x, branch = maps(torch.float32, torch.float32)
    state = torch.get_rng_state()
    assert torch.equal(add(x, branch), x + branch)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_generator_of_the_device_decides():
    add = DropPathAdd(RATE)
    x, branch = maps(torch.float32, torch.float32)
    first = seeded(add, x, branch)
    assert not torch.equal(add(x, branch), first)  # every call draws anew
    assert torch.equal(seeded(add, x, branch), first)


@on_every_device
@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize(('residual', 'of_branch'), MIXED)
def test_two_dtypes_give_what_their_sum_gives(residual, of_branch, autocast, device):
    x, branch = maps(residual, of_branch, device=device)
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        out, plain = seeded(DropPathAdd(RATE), x, branch), x + branch
    assert out.dtype == plain.dtype
    kept = (out != x).flatten(1).any(1)
    torch.testing.assert_close(out[kept], x[kept] + branch[kept].to(out.dtype) / (1 - RATE))
    out.sum().backward()
    assert (x.grad.dtype, branch.grad.dtype) == (residual, of_branch)
    torch.testing.assert_close(branch.grad[kept], torch.full_like(branch[kept], 1 / (1 - RATE)))


@pytest.mark.parametrize('dtypes', [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize('shape', [(4, 6, 5, 7), (4, 6, 1, 9), (4, 1, 5, 7), (4, 6, 1, 1), (1, 6, 5, 7)])
@pytest.mark.parametrize('memory_format', [torch.channels_last, torch.contiguous_format])
def test_the_layout_of_the_memory_stays(memory_format, shape, dtypes):
    x, branch = maps(*dtypes, shape=shape, memory_format=memory_format)
    out = DropPathAdd(RATE)(x, branch)
    assert out.is_contiguous(memory_format=memory_format)
    out.backward(torch.ones_like(out))
    assert branch.grad.stride() == branch.stride()


@pytest.mark.parametrize('shape', [(0, 6, 5, 7), (3, 6, 0, 7), (5, 4), (5, 9, 4)])
def test_no_samples_and_other_shapes(shape):
    x, branch = (torch.ones(shape, requires_grad=True) for _ in range(2))
    out = DropPathAdd(RATE)(x, branch)
    assert out.shape == shape
    out.sum().backward()
    assert branch.grad.shape == shape


def test_gradcheck_in_float64():
    x, branch = maps(torch.float64, torch.float64, shape=(5, 2, 2, 3))
    assert torch.autograd.gradcheck(lambda *inputs: seeded(DropPathAdd(RATE), *inputs), (x, branch))


class Passes(TorchDispatchMode):
    """The operations that make a map of `numel` elements."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.names = numel, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (
            isinstance(out, torch.Tensor)
            and out.numel() == self.numel
            and func is not torch.ops.aten.detach.default
        ):
            self.names.append(func.overloadpacket.__name__)
        return out


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_one_pass_forward_and_one_backward(dtype):
    x, branch = maps(dtype, dtype)
    grad = torch.ones_like(x)
    with Passes(x.numel()) as forward:
        out = DropPathAdd(RATE)(x, branch)
    with Passes(x.numel()) as backward:
        torch.autograd.grad(out, (x, branch), grad)
    assert forward.names == ['addcmul'] and backward.names == ['mul']


def test_autocast_of_a_gpu_copies_no_map(monkeypatch):
    """It would cast the branch to the residual's dtype; on fake tensors, which need no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    with FakeTensorMode(), torch.autocast('cuda', torch.float16):
        try:
            x = torch.empty(2, 8, 4, 4, device='cuda')
        except RuntimeError:
            pytest.skip(f'torch {torch.__version__} has no fake tensors of a GPU without one')
        with Passes(x.numel()) as plain:
            torch.addcmul(x, x[:, :1, :1, :1], x.half())
        with Passes(x.numel()) as passes:
            out = DropPathAdd(RATE)(x, x.half())
    assert plain.names == ['_to_copy', '_to_copy', 'addcmul']
    assert passes.names == ['_to_copy', 'addcmul'] and out.dtype == torch.float32  # the copy is the branch itself


@pytest.mark.parametrize('dtypes', [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)])
def test_it_compiles_without_a_graph_break(dtypes):
    torch._dynamo.reset()
    x, branch = maps(*dtypes)
    add = DropPathAdd(RATE)
    with torch.autocast('cpu', torch.bfloat16):
        out = seeded(torch.compile(add, fullgraph=True, backend='aot_eager'), x, branch)
    assert torch.equal(out, seeded(add, x, branch))
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(seeded(add, x, branch), (x, branch), grad)
    torch.testing.assert_close(torch.autograd.grad(out, (x, branch), grad), expected)


@pytest.mark.parametrize('arch', ['nano', 'swin-nano'])
def test_checkpointed_blocks_draw_the_same_again(arch):
    nets = [DWNet(arch, drop_path_rate=0.5, with_cp=with_cp).double() for with_cp in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    image = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for net in nets:
        torch.manual_seed(0)
        net(image)[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('make', [DWNet, IsotropicNet])
def test_it_is_no_part_of_a_checkpoint_and_of_what_is_traced(make):
    arch = dict(embed_dims=64, depth=2) if make is IsotropicNet else dict(embed_dims=32, depths=(1, 1))
    net = make(arch, drop_path_rate=RATE).eval()
    assert not [key for key in net.state_dict() if 'drop_path' in key]
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        traced = torch.jit.trace(net, image)
        assert not {'aten::bernoulli_', 'aten::addcmul'} & {node.kind() for node in traced.inlined_graph.nodes()}
        torch.testing.assert_close(traced(image)[0], net(image)[0])


def test_it_says_its_rate():
    assert repr(DropPathAdd(2 / 11)) == 'DropPathAdd(drop_prob=0.182)'
