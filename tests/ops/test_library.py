"""What torch is told about the ops: opcheck, torch.compile without a graph break, FLOP counters."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from op_cases import NAMES, OPS, tensors
from torch import nn
from torch_features import needs_opcheck

import mmdwnet
from mmdwnet import ops
from mmdwnet.ops import cpu

LIBRARY = torch.ops.mmdwnet
MIXERS = ('DepthwiseConv', 'DynamicDepthwiseConv', 'InhomogeneousDynamicDepthwiseConv')
SHAPE = (2, 6, 3, 5, 7, 3)  # (B, C, G, H, W, K)
MACS = {
    'depthwise': 2 * 6 * 5 * 7 * 9,
    'dynamic': 2 * 6 * 5 * 7 * 9,
    'inhomogeneous': 2 * 6 * 5 * 7 * 9,
    'generated': 2 * 5 * 7 * (27 * 5 + 6 * 9),
}


def library_call(op, layout=torch.contiguous_format):
    """The op and its arguments as the dispatcher sees them."""
    arguments = [t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in tensors(op, SHAPE)]
    arguments = [argument.requires_grad_() for argument in arguments]
    sizes = [SHAPE[2], SHAPE[5]] if op == 'generated' else []
    return getattr(LIBRARY, NAMES[op]), [*arguments, *sizes, 'tiled']


@needs_opcheck
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('op', OPS)
def test_opcheck(op, layout):
    run, arguments = library_call(op, layout)
    torch.library.opcheck(run.default, arguments)


@needs_opcheck
def test_opcheck_with_an_axis_of_groups(monkeypatch):
    """Which 'compiled' alone takes as it is; its loop is not compiled here."""
    monkeypatch.setattr(ops.compiled, '_weigh', lambda: ops.compiled.weigh)
    x = torch.randn(2, 5, 7, 3, 8).permute(0, 4, 3, 1, 2)  # (B, G, C / G, H, W), the groups fastest in memory
    arguments = [x, torch.randn(2, 5, 5, 7), torch.randn(72, 5), torch.randn(72)]
    torch.library.opcheck(LIBRARY.generated_depthwise_conv2d.default, (*arguments, 8, 3, 'compiled'))


@needs_opcheck
@pytest.mark.parametrize('op', OPS)
def test_opcheck_of_the_gradients(op):
    run, arguments = library_call(op)
    plain = [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments]
    gradient = getattr(LIBRARY, f'{NAMES[op]}_backward')
    without_bias = plain if op not in ('depthwise', 'dynamic') else [*plain[:2], plain[-1]]
    torch.library.opcheck(gradient.default, [torch.randn_like(plain[0]), *without_bias])


@pytest.mark.parametrize('mixer', MIXERS)
def test_the_networks_compile_without_a_graph_break(mixer):
    """In inference and in training, with equal results; without a C++ compiler, operation by operation."""
    torch._dynamo.reset()
    backend = 'inductor' if 'compiled' in ops.available_impls() else 'aot_eager'
    torch.manual_seed(0)
    arch = dict(embed_dims=32, depths=(1, 1))
    net = mmdwnet.DWNet(arch, mixer, out_norm_cfg=None, drop_path_rate=0.0)
    image = torch.randn(2, 3, 40, 36)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(image)[0], net(image)[0], rtol=1e-4, atol=1e-5)
        if mixer == 'DepthwiseConv':  # another size, for which torch makes the sizes free: odd ones are padded
            odd = torch.randn(2, 3, 33, 50)
            torch.testing.assert_close(compiled(odd)[0], net(odd)[0], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()  # training with free sizes is beyond inductor (2.11)
    net.train()
    gradients = []
    for run in (net, compiled):
        net.zero_grad()
        run(image)[0].square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for eager, traced in zip(*gradients, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-3, atol=1e-5 + 1e-4 * float(eager.abs().max()))


def test_compiled_code_names_the_compiled_implementation():
    """Inside torch.compile 'auto' is 'compiled' on a CPU with a compiler; a named impl stays what it is."""
    if 'compiled' not in ops.available_impls():
        pytest.skip('no C++ compiler for torch.compile')
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    x, weight = tensors('inhomogeneous', SHAPE)
    for impl in ('auto', 'tiled'):
        torch.compile(ops.inhomogeneous_depthwise_conv2d, backend=backend, fullgraph=True)(x, weight, impl=impl)
    named = [
        node.args[-1] for graph in graphs for node in graph.graph.nodes if 'inhomogeneous' in str(node.target)
    ]
    assert named == ['compiled', 'tiled']


class Call(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, *arguments):
        if self.op == 'generated':
            return ops.generated_depthwise_conv2d(*arguments, groups=SHAPE[2], kernel_size=SHAPE[5], impl='tiled')
        return getattr(ops, NAMES[self.op])(*arguments, impl='tiled')


@pytest.mark.parametrize('op', OPS)
def test_both_flop_counters_know_the_ops(op):
    """torch counts two operations a multiply-add, mmengine, on a jit trace, one."""
    counter = pytest.importorskip('torch.utils.flop_counter').FlopCounterMode(display=False)
    arguments = tensors(op, SHAPE)
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    with counter:
        out = Call(op)(*leaves)
        assert counter.get_total_flops() == 2 * MACS[op]
        out.sum().backward()
    # forward, and as much for x and for the kernels; generated kernels are made twice and have two arguments
    generating = 2 * 5 * 7 * 27 * 5 if op == 'generated' else 0
    assert counter.get_total_flops() == 2 * (3 * MACS[op] + generating)
    assert FlopAnalyzer(Call(op), tuple(arguments)).unsupported_ops_warnings(False).total() == MACS[op]


def test_torchs_own_fused_ops_are_counted():
    """Which torch itself counts as nothing; the forms that add a map too, as torch.compile writes them."""
    counter = pytest.importorskip('torch.utils.flop_counter').FlopCounterMode(display=False)
    x, weight = torch.randn(2, 6, 5, 7), torch.randn(4, 6, 3, 3)
    rows, matrix = torch.randn(9, 6), torch.randn(4, 6)
    pads = [1, 1], [1, 1], [1, 1], 1
    if cpu.CONVOLUTION is None or cpu.LINEAR is None:
        pytest.skip('this torch has no oneDNN')
    with counter:
        cpu.CONVOLUTION(x, weight, None, *pads, 'gelu', [], 'none')
        cpu.CONVOLUTION(x, torch.ones(2, 4, 5, 7), weight, None, *pads, 'add', 1.0, None, [], None)
        cpu.LINEAR(rows, matrix, None, 'none', [], '')
        cpu.LINEAR(rows, torch.ones(9, 4), matrix, None, 'add')
    assert counter.get_total_flops() == 2 * 2 * (2 * 4 * 5 * 7 * 6 * 9 + 9 * 4 * 6)


@pytest.mark.parametrize('mixer', MIXERS)
def test_a_network_counts_the_same_in_inference_and_in_training(mixer):
    """torch's counter, over the operations that each of them runs on a CPU."""
    flop_counter = pytest.importorskip('torch.utils.flop_counter')
    net = mmdwnet.DWNet('nano', mixer).eval()
    totals = []
    for grad in (True, False):
        counter = flop_counter.FlopCounterMode(display=False)
        with counter, torch.set_grad_enabled(grad):
            net(torch.zeros(1, 3, 64, 64))
        totals.append(counter.get_total_flops())
    assert totals[0] == totals[1] > 0
