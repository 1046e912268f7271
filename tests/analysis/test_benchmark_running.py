"""From cases to results, sheets, JSON and pictures, on nets of a few layers."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

import mmdwnet
from mmdwnet.analysis.benchmark import nets, op_cases, report
from mmdwnet.analysis.benchmark.bandwidth import Bandwidth
from mmdwnet.analysis.benchmark.cases import Case, Workshop, check_device
from mmdwnet.analysis.benchmark.charts import draw
from mmdwnet.analysis.benchmark.demands import SPEEDUP, Demand, judge
from mmdwnet.analysis.benchmark.memory import peak_bytes
from mmdwnet.analysis.benchmark.op_cases import (
    BEYOND_CACHE,
    OP_TASKS,
    OPS,
    OpCase,
    OpWorkshop,
    impls_of,
    sets_needed,
)
from mmdwnet.analysis.benchmark.running import (
    LATENCY,
    MEMORY,
    SCALING,
    SPEED,
    Group,
    Peak,
    Result,
    Skipped,
    run_group,
    steps_of,
)
from mmdwnet.analysis.benchmark.running import OPS as OPS_KIND
from mmdwnet.analysis.benchmark.suites import ops_at
from mmdwnet.analysis.benchmark.timing import Failure, Plan, Samples, Stopwatch
from mmdwnet.errors import UserError

PLAN = Plan(rounds=2, burst=0.0, warm_up=1)
SMALL = dict(batch=2, size=32)
MACHINE = dict(
    cpu='a CPU', cores=2, threads=1, instructions='AVX', commit=None, date='today', versions=dict(torch='2')
)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)
        self.head = nn.Linear(8, nets.NUM_CLASSES)
        self.seen = []

    def forward(self, images):
        self.seen.append((images, self.training, torch.is_grad_enabled()))
        return self.head(self.conv(images).mean((2, 3)))


def broken(size):
    raise RuntimeError('cannot be built')


@pytest.fixture
def small_nets(monkeypatch):
    """Nets of one layer under names of their own: two that work, one broken, one not installed."""
    found = [
        nets.Net('small', 'Small', nets.OURS, lambda size: Small()),
        nets.Net('small-deployed', 'Small deployed', nets.OURS_DEPLOYED, lambda size: Small()),
        nets.Net('peer', 'Peer (timm)', 'timm', lambda size: Small()),
        nets.Net('broken', 'Broken (timm)', 'timm', broken),
        nets.Net('optional', 'Optional (natten)', 'natten', broken, optional=True),
        nets.Net('absent', 'Absent', 'natten', broken, package='no_such_package'),
    ]
    for net in found:
        monkeypatch.setitem(nets.NETS, net.name, net)
    return [net.name for net in found]


def group_of(names, kind=SPEED, **options):
    precisions = ('float32', 'bfloat16-autocast')
    cases = [Case(name, precision=precision, **SMALL, **options) for precision in precisions for name in names]
    return Group('inference', kind, tuple(cases), baseline='peer')


def run(group):
    return run_group(group, PLAN, Stopwatch(), threads=1)


def test_a_failing_peer_is_reported_and_the_others_are_measured(small_nets):
    group = group_of(small_nets)
    steps = []
    results = run_group(group, PLAN, Stopwatch(), 1, steps.append)
    assert [result.case for result in results] == list(group.cases)
    outcome = {result.case.net: result.outcome for result in results}
    assert outcome['broken'] == outcome['optional'] == Failure('RuntimeError: cannot be built')
    assert outcome['absent'] == Skipped('no_such_package is not installed: skipped')
    assert len(outcome['small'].seconds) == len(outcome['peer'].seconds) == PLAN.rounds
    assert {result.case.net for result in results if result.failed} == {'broken'}
    assert len(steps) <= steps_of(group, PLAN)
    sheet = report.sheet_of(group, results)
    assert sum(row[-1] == '1.00' for section in sheet.sections for row in section) == 2  # the baseline's own
    assert sheet.below == [
        'Broken (timm) in float32, Optional (natten) in float32, Broken (timm) in bfloat16-autocast, '
        'Optional (natten) in bfloat16-autocast: failed: RuntimeError: cannot be built',
        'Absent: no_such_package is not installed: skipped',
    ]


def test_deployed_nets_do_not_train(small_nets):
    results = run(group_of(['small', 'small-deployed'], task='training'))
    assert [type(result.outcome) for result in results] == [Samples, Skipped] * 2


def test_ops_are_measured_a_shape_at_a_time_and_compared_in_turn():
    cases = [
        OpCase('dynamic', impl, channels, side, batch=1)
        for impl in ('tiled', 'as published')
        for channels, side in ((8, 6), (16, 3))
    ]
    group, steps = Group('ops forward', OPS_KIND, tuple(cases)), []
    results = run_group(group, PLAN, Stopwatch(), 1, steps.append)
    assert [result.case for result in results] == cases
    assert all(isinstance(result.outcome, Samples) for result in results)
    assert steps == [cases[0], cases[2]] * (1 + PLAN.rounds) + [cases[1], cases[3]] * (1 + PLAN.rounds)


def test_the_sheet_of_ops_on_a_gpu_says_how_they_are_called():
    for device, conditions in (('cuda', 'batch 8, cuda, as CUDA graphs; '), ('cpu', 'batch 8, cpu; ')):
        case = OpCase('static', 'conv2d', 8, 5, device=device)
        results = [Result(case, Samples((1.0,), 1))]
        assert conditions in report.sheet_of(Group('ops forward', OPS_KIND, (case,)), results).title


def test_json_has_every_sample_and_no_path(small_nets):
    group = group_of(small_nets)
    results = run(group)
    case, peer = group.cases[0], group.cases[2]
    verdict = judge(Demand('item 1', 'inference', 'text', SPEEDUP, (case,), ((peer,),), 1e-9), results)
    data = report.as_json(MACHINE, PLAN, [(group, results)], [verdict], Bandwidth(1e9, None))
    assert json.loads(json.dumps(data)) == json.loads(json.dumps(data, allow_nan=False))
    rows = data['groups'][0]['results']
    assert [row['status'] for row in rows[:6]] == ['measured'] * 3 + ['failed'] * 2 + ['skipped']
    row = rows[0]
    assert (row['net'], row['precision'], row['batch'], row['size']) == ('small', 'float32', 2, 32)
    assert len(row['seconds']) == PLAN.rounds
    assert row['images_per_second'] == pytest.approx(2 / row['spread']['median'])
    assert row['ratio_to'] == 'Peer (timm)'
    assert data['demands'][0]['met'] and data['demands'][0]['measured'] == verdict.value


def test_sheets_become_markdown(small_nets):
    group = group_of(['small', 'peer'])
    results = [Result(case, Samples((0.5 if case.net == 'small' else 1.0,), 1)) for case in group.cases]
    text = report.as_markdown(MACHINE, [report.sheet_of(group, results)])
    assert text.startswith('Measured on: a CPU, 1 of 2 cores, AVX; torch 2; commit unknown; today\n')
    row = next(line for line in text.splitlines() if line.startswith('| Small '))
    assert [cell.strip() for cell in row.strip('|').split('|')] == ['Small', 'float32', '4', '500', '0.0', '2.00']


def results_of(kind):
    if kind == OPS_KIND:
        cases = ops_at(['float32', 'bfloat16'], 'forward', 'nano', 2, 'cpu', ops=('static', 'dynamic'))
    elif kind == SCALING:
        cases = tuple(Case(net, batch=batch) for net in ('small', 'peer') for batch in (1, 4))
    else:
        cases = group_of(['small', 'small-deployed', 'peer']).cases
    group = Group(f'{kind} batch', kind, cases, baseline='peer')
    if kind == MEMORY:
        return group, [Result(case, Peak(2**20 * (i + 1))) for i, case in enumerate(cases)]
    return group, [Result(case, Samples((0.1 * (i + 1), 0.2 * (i + 1)), 1)) for i, case in enumerate(cases)]


@pytest.mark.parametrize('kind', [SPEED, LATENCY, MEMORY, OPS_KIND, SCALING])
def test_every_kind_of_group_has_a_sheet_and_a_picture(kind, small_nets, tmp_path):
    group, results = results_of(kind)
    sheet = report.sheet_of(group, results, Bandwidth(1e10, 2e10))
    rows = [row for section in sheet.sections for row in section]
    assert len(rows) == len(results) and {len(row) for row in rows} == {len(sheet.headings)}
    path = draw(group, results, tmp_path, 'a machine')
    assert path.parent == tmp_path and path.suffix == '.png'
    picture = imread(path)
    height, width, _ = picture.shape
    assert width >= 900 and height >= 300
    inked = np.any(picture[..., :3] < 0.95, axis=-1)
    assert 0.02 < inked.mean() < 0.7  # neither empty nor a blot
    assert not inked[:, [0, -1]].any() and not inked[[0, -1]].any()  # nothing is cut at the edge


def test_nothing_measured_makes_no_picture(small_nets, tmp_path):
    group = group_of(['broken'])
    assert draw(group, run(group), tmp_path, 'a machine') is None
    assert list(tmp_path.iterdir()) == []


class TestCalls:
    """What is timed is what the case says."""

    def test_inference_and_training(self, small_nets, monkeypatch):
        made = []
        monkeypatch.setitem(
            nets.NETS, 'small', nets.Net('small', 'S', nets.OURS, lambda size: made.append(Small()) or made[-1])
        )
        workshop = Workshop()
        workshop.prepare(Case('small', layout='channels_last', **SMALL))()
        workshop.prepare(Case('small', layout='channels_last', precision='bfloat16-autocast', **SMALL))()
        workshop.prepare(Case('small', task='training', **SMALL))()
        inference, training = made  # autocast needs no module of its own
        (images, is_training, with_grad), _ = inference.seen
        assert images.shape == (2, 3, 32, 32) and images.is_contiguous(memory_format=torch.channels_last)
        assert (is_training, with_grad) == (False, False)
        images, is_training, with_grad = training.seen[0]
        assert images.is_contiguous() and (is_training, with_grad) == (True, True)
        assert training.conv.weight.grad is None  # dropped, as after a step

    def test_an_optimizer_step_moves_the_weights(self, small_nets, monkeypatch):
        for optimizer in (False, True):
            net = Small()
            before = net.head.bias.detach().clone()
            monkeypatch.setitem(nets.NETS, 'small', nets.Net('small', 'S', nets.OURS, lambda size, net=net: net))
            Workshop().prepare(Case('small', task='training', optimizer=optimizer, **SMALL))()
            assert torch.equal(net.head.bias, before) is not optimizer

    def test_cast_weights(self, small_nets):
        run = Workshop().prepare(Case('small', precision='bfloat16', **SMALL))
        assert run().dtype == torch.bfloat16

    @pytest.mark.parametrize('name', [name for name in nets.NETS if '-nano' in name])
    def test_the_nets_of_this_project_classify(self, name):
        logits = Workshop().prepare(Case(name, **SMALL))()
        assert logits.shape == (2, nets.NUM_CLASSES) and logits.isfinite().all()

    def test_deployed_nets_compute_what_the_others_do(self):
        """`dwnet-nano` and its deployed and published forms are one function: same seed, same weights."""
        images = torch.randn(2, 3, 64, 64)
        for name in nets.MIXERS:
            forms = [f'{name}-nano', f'{name}-nano-deployed']
            found = []
            for form in forms:
                torch.manual_seed(0)
                net = nets.NETS[form].build(64)
                found.append(net.eval()(images))
            torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)

    def test_a_frozen_net_computes_the_same(self, monkeypatch):
        """Weights and images come from one seed in both modes."""
        arch = dict(embed_dims=32, depths=(1,))
        net = nets.Net('small', 'S', nets.OURS_DEPLOYED, lambda size: mmdwnet.DWNet(arch, deploy=True))
        monkeypatch.setitem(nets.NETS, 'small', net)
        eager, frozen = (Workshop().prepare(Case('small', compile=mode, **SMALL)) for mode in ('none', 'frozen'))
        torch.testing.assert_close(frozen()[0], eager()[0], rtol=1e-4, atol=1e-4)
        assert 'do not train' in Case('dwnet-nano', compile='frozen', task='training').skipped()

    @pytest.mark.parametrize('task', OP_TASKS)
    @pytest.mark.parametrize('op', OPS)
    def test_ops_compute_the_same_with_every_implementation(self, op, task):
        workshop, results = OpWorkshop(), {}
        for impl in impls_of(op, 'cpu'):
            if impl not in ('triton', 'compiled'):  # which have tests of their own, and take long to begin
                results[impl] = workshop.prepare(OpCase(op, impl, 32, 5, task=task, batch=2))()
        first = next(iter(results.values()))
        for result in results.values():
            torch.testing.assert_close(result, first, rtol=1e-3, atol=1e-3)

    def test_cases_of_one_op_share_their_inputs(self, monkeypatch):
        seen, workshop = [], OpWorkshop()
        monkeypatch.setattr(op_cases, 'dynamic_depthwise_conv2d', lambda x, *args, impl: seen.append((x, impl)))
        for impl in ('tiled', 'reference'):
            workshop.prepare(OpCase('dynamic', impl, 8, 5, batch=1))()
        (x, first), (y, second) = seen
        assert x is y and (first, second) == ('tiled', 'reference')

    def test_the_static_op_has_triton_s_kernels_on_a_gpu_that_has_them(self, monkeypatch):
        for impls in (('reference', 'triton'), ('reference',)):
            monkeypatch.setattr(op_cases, 'available_impls', lambda device, impls=impls: impls)
            assert ('triton' in impls_of('static', 'cuda')) is ('triton' in impls)
            assert impls_of('static', 'cpu') == ('conv2d',)
        seen = []
        monkeypatch.setattr(op_cases, 'depthwise_conv2d', lambda *args, impl: seen.append(impl))
        OpWorkshop().prepare(OpCase('static', 'triton', 8, 5, batch=1))()
        assert seen == ['triton']

    def test_a_compiled_op(self):
        eager, compiled = (
            OpWorkshop().prepare(OpCase('static', 'conv2d', 8, 5, compile=mode, batch=1))
            for mode in ('none', 'default')
        )
        assert compiled().shape == eager().shape == (1, 8, 5, 5)


@pytest.mark.parametrize('op, number', [('static', 3), ('inhomogeneous', 1), ('generated', 3)])
def test_sets_of_inputs_are_beyond_the_cache_and_no_more(op, number):
    cache = 50 << 20  # of an H100
    moved = OpCase(op, 'triton', 192, 28, precision='bfloat16', batch=128).moved_bytes()
    assert sets_needed(moved, cache) == number
    assert number * moved >= BEYOND_CACHE * cache and (number == 1 or (number - 1) * moved < BEYOND_CACHE * cache)


def test_half_precision_needs_a_gpu(monkeypatch):
    check_device('cpu', 'bfloat16-autocast')
    for precision in ('float16', 'float16-autocast'):
        with pytest.raises(UserError, match=f'{precision} needs a GPU'):
            check_device('cpu', precision)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='no GPU'):
        check_device('cuda', 'float32')


def test_peak_memory_grows_with_the_batch_and_is_no_other_process_s():
    ballast = torch.ones(2**28, dtype=torch.uint8)  # 256 MiB of this process, which a new one must not count
    few, many = (peak_bytes(Case('dwnet-nano', 'training', batch=batch, size=64), 1) for batch in (2, 16))
    assert 2**20 < few < many < ballast.nbytes


def test_a_failure_in_the_process_that_measures_memory_is_one_line():
    with pytest.raises(RuntimeError) as caught:
        peak_bytes(Case('no-such-net'), 1)
    assert str(caught.value) == "KeyError: 'no-such-net'"


def test_nat_has_the_published_size(monkeypatch):
    """28 and 90 million parameters (Hassani et al., table 2), with attention of the usual projections."""

    class Attention(nn.Module):
        def __init__(self, channels, num_heads, kernel_size):
            super().__init__()
            assert channels // num_heads == 32 and kernel_size == 7
            self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

        def forward(self, x):
            return self.proj(self.qkv(x)[..., : x.shape[-1]])

    monkeypatch.setitem(sys.modules, 'natten', types.SimpleNamespace(NeighborhoodAttention2D=Attention))
    for arch, millions in (('tiny', 28), ('base', 90)):
        net = nets.NETS[f'natten-nat-{arch}'].build(224)
        assert round(sum(p.numel() for p in net.parameters()) / 1e6) == millions
    net = nets.NETS['natten-nat-tiny'].build(32).eval()
    assert net(torch.randn(1, 3, 32, 32)).shape == (1, nets.NUM_CLASSES)


def test_patterns_name_nets():
    assert nets.find_nets(['dwnet-tiny']) == ['dwnet-tiny']
    assert set(nets.find_nets(['timm-*', '*-tiny-deployed'])) == {
        'timm-swin-tiny', 'timm-convnext-tiny', 'timm-swin-base', 'timm-convnext-base',
        'dwnet-tiny-deployed', 'dynamic-dwnet-tiny-deployed', 'idynamic-dwnet-tiny-deployed',
    }  # fmt: skip
    with pytest.raises(UserError, match='swim-tiny: no net of that name'):
        nets.find_nets(['dwnet-tiny', 'swim-tiny'])


@pytest.mark.parametrize('name', ['mmpretrain-swin-tiny', 'mmpretrain-convnext-tiny', 'timm-convnext-tiny'])
def test_peers_are_whole_classifiers_of_their_published_size(name):
    """28.3 and 28.6 million parameters: Swin-T and ConvNeXt-T in their papers, with a head of 1000 classes."""
    pytest.importorskip(name.split('-')[0])
    net = nets.NETS[name].build(224)
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert round(millions, 1) == (28.3 if 'swin' in name else 28.6)
    assert net(torch.randn(1, 3, 224, 224)).shape == (1, nets.NUM_CLASSES)


def test_no_peer_library_is_imported_with_the_benchmark():
    code = (
        'import sys, mmdwnet.analysis.benchmark.suites, mmdwnet.analysis.benchmark.report; '
        'assert not {"mmpretrain", "timm", "natten", "matplotlib"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
