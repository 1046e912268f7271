"""The demanded ratios, judged on synthetic results."""

from dataclasses import replace

import pytest

from mmdwnet.analysis.benchmark.bandwidth import Bandwidth
from mmdwnet.analysis.benchmark.cases import Case
from mmdwnet.analysis.benchmark.demands import (
    GROWTH,
    SHARE_OF_BANDWIDTH,
    SHARE_OF_MEMORY,
    SPEEDUP,
    Demand,
    growth_exponent,
    judge,
)
from mmdwnet.analysis.benchmark.op_cases import INHOMOGENEOUS, OpCase
from mmdwnet.analysis.benchmark.running import Peak, Result
from mmdwnet.analysis.benchmark.suites import BATCHES, gpu, must_show, scaling_group
from mmdwnet.analysis.benchmark.timing import Failure, Samples
from mmdwnet.ops import available_impls

NET, PEER = Case('dwnet-tiny'), Case('timm-convnext-tiny')


def demand(kind, cases, against, bound):
    return Demand('item 0', 'group', 'this and that', kind, cases, against, bound)


def timed(case, *seconds):
    return Result(case, Samples(seconds, 1))


def test_a_speed_is_judged_by_the_paired_ratio():
    results = [timed(NET, 1.0, 2.0, 4.0), timed(PEER, 1.5, 3.2, 6.0)]
    verdict = judge(demand(SPEEDUP, (NET,), ((PEER,),), 1.5), results)
    assert (verdict.value, verdict.met) == (1.5, True)
    assert verdict.noise == pytest.approx((1.5, 1.55))
    assert not judge(demand(SPEEDUP, (NET,), ((PEER,),), 1.51), results).met


def test_the_fastest_layout_of_a_peer_counts_and_a_failed_one_does_not():
    other = replace(PEER, layout='channels_last')
    asked = demand(SPEEDUP, (NET,), ((PEER,), (other,)), 2.0)
    assert judge(asked, [timed(NET, 1.0), timed(PEER, 3.0), timed(other, 2.5)]).value == 2.5
    assert judge(asked, [timed(NET, 1.0), timed(PEER, 3.0), Result(other, Failure('no'))]).value == 3


@pytest.mark.parametrize('missing', [NET, PEER])
def test_what_was_not_measured_is_not_met(missing):
    results = [Result(case, Failure('no') if case == missing else Samples((1.0,), 1)) for case in (NET, PEER)]
    verdict = judge(demand(SPEEDUP, (NET,), ((PEER,),), 0.1), results)
    assert (verdict.value, verdict.met) == (None, False)


def test_memory_is_a_share_at_most():
    results = [Result(NET, Peak(200)), Result(PEER, Peak(1000))]
    assert judge(demand(SHARE_OF_MEMORY, (NET,), ((PEER,),), 0.2), results).met
    assert not judge(demand(SHARE_OF_MEMORY, (NET,), ((PEER,),), 0.19), results).met


@pytest.mark.parametrize('power', [1.0, 1.3])
def test_growth_is_the_power_of_the_work(power):
    cases = scaling_group('size', ['dwnet-tiny'], ['float32'], 'cpu').cases
    results = [timed(case, 1e-6 * (case.size**2) ** power) for case in cases]
    assert growth_exponent((result.case, result.outcome) for result in results) == pytest.approx(power)
    assert judge(demand(GROWTH, cases, (), 1.1), results).met is (power == 1.0)


def test_ops_are_added_up_over_the_stages():
    fused = [OpCase('generated', 'triton', channels, side) for channels, side in ((96, 56), (192, 28))]
    unfused = [replace(case, impl='unfused') for case in fused]
    results = [*map(timed, fused, (2.0, 1.0)), *map(timed, unfused, (4.0, 5.0))]
    assert judge(demand(SPEEDUP, tuple(fused), (tuple(unfused),), 2), results).value == 3


def test_bandwidth_is_that_of_the_bytes_that_must_be_moved():
    case = OpCase('inhomogeneous', 'triton', 96, 56, precision='bfloat16', batch=2)
    pixels = 2 * 56 * 56
    assert case.moved_bytes() == pixels * (96 + 32 * 49 + 96) * 2
    asked = demand(SHARE_OF_BANDWIDTH, (case,), (), 0.7)
    verdict = judge(asked, [timed(case, case.moved_bytes() / 8e9)], Bandwidth(copied=1e10, peak=2e10))
    assert verdict.value == pytest.approx(0.8)


@pytest.mark.parametrize('suite', [must_show(), gpu()], ids=lambda suite: suite.name)
def test_every_demand_of_a_suite_is_about_what_the_suite_measures(suite):
    groups = {group.name: group.cases for group in suite.groups}
    assert len(groups) == len(suite.groups)
    assert len({asked.text for asked in suite.demands}) == len(suite.demands)
    for asked in suite.demands:
        assert asked.cases
        for case in (*asked.cases, *(case for cases in asked.against for case in cases)):
            # Triton's kernels have no rows on a machine without them, and are not shown there
            if getattr(case, 'impl', '') != 'triton' or 'triton' in available_impls('cuda'):
                assert case in groups[asked.group], asked.text


def test_on_a_cpu_a_deployed_net_is_judged_compiled_and_the_text_says_so():
    """And of the net that it is compared with the faster layout or compile mode, where there are two."""
    speeds = [asked for asked in must_show().demands if asked.kind == SPEEDUP]
    assert {asked.cases[0].task for asked in speeds} == {'inference', 'training'}
    for asked in speeds:
        (case,) = asked.cases
        assert case.compile == ('frozen' if case.task == 'inference' else 'none'), asked.text
        assert (' deployed, compiled frozen' in asked.text) is (case.task == 'inference')
        assert (', faster of both' in asked.text) is (len(asked.against) > 1)


def test_on_a_gpu_graphs_must_beat_both_forms_of_a_peer_and_eager_nets_the_eager_form():
    speeds = [asked for asked in gpu().demands if asked.kind == SPEEDUP and asked.group != 'ops forward']
    graphs, eager = ([asked for asked in speeds if (', eager /' in asked.text) is flag] for flag in (False, True))
    assert [asked.bound for asked in graphs] == [asked.bound for asked in eager] == [1.5, 1.3, 1.3, 1.0] * 2
    for asked in graphs:
        assert ', as a CUDA graph / ' in asked.text and ', faster of both, ' in asked.text
        assert [case.compile for case in asked.cases] == ['cuda-graph']
        assert {case.compile for (case,) in asked.against} == {'none', 'cuda-graph'}
    for asked in eager:
        assert asked.text.count(', eager') == 2
        assert [case.compile for case in asked.cases] == [case.compile for (case,) in asked.against] == ['none']


def test_a_graph_that_fails_is_not_met_by_its_eager_form():
    asked = next(asked for asked in gpu().demands if ', as a CUDA graph / ' in asked.text)
    (case,), peers = asked.cases, [peer for (peer,) in asked.against]
    results = [timed(replace(case, compile='none'), 1.0), *(timed(peer, 9.0) for peer in peers)]
    assert not judge(asked, [*results, Result(case, Failure('no'))]).met
    assert judge(asked, [*results, timed(case, 1.0)]).met


def test_the_suite_of_a_gpu_has_no_ops_that_are_oracles_or_for_cpus():
    for group in gpu().groups:
        if group.kind == 'ops':
            assert {case.impl for case in group.cases} <= {
                'triton',
                'conv2d',
                'unfused',
                'unfused, group fastest',
                'as published',
            }


def test_the_suite_of_the_issue_is_met_where_all_its_ratios_are_and_else_not():
    suite = must_show()
    seconds = {'deployed': 1.0, 'as-published': 10.0, 'first-published': 9.0, 'mmpretrain': 5.0, 'timm': 4.0}

    def outcome(case):
        speed = next((value for part, value in seconds.items() if part in case.net), 2.0)
        speed *= 0.5 if case.precision != 'float32' else 1
        return Samples((speed * case.batch * case.size**2,) * 3, 1)

    by_group = {
        group.name: [
            Result(case, outcome(case) if group.kind != 'memory' else Peak(50 if 'published' in case.net else 9))
            for case in group.cases
        ]
        for group in suite.groups
    }
    assert all(judge(asked, by_group[asked.group]).met for asked in suite.demands)
    items = {asked.source.split(' (')[0] for asked in suite.demands}
    assert items >= {f'item {number}' for number in range(1, 7)}
    for results in by_group.values():
        results.clear()
    assert not any(judge(asked, by_group[asked.group]).met for asked in suite.demands)


def test_the_suite_of_a_gpu_is_met_where_triton_and_all_its_ratios_are():
    suite = gpu()
    seconds = {'idynamic': 3.0, 'dynamic': 2.0, 'dwnet': 1.0, 'mmpretrain': 4.0, 'timm': 3.5}
    by_group = {group.name: [] for group in suite.groups}
    for asked in suite.demands:
        for case in (*asked.cases, *(case for cases in asked.against for case in cases)):
            name = getattr(case, 'net', 'dwnet')
            speed = next(value for part, value in seconds.items() if part in name)
            if isinstance(case, OpCase):
                speed = case.moved_bytes() / (4e12 if case.op in INHOMOGENEOUS else 1e12)
                speed *= 3 if 'unfused' in case.impl else 1
            by_group[asked.group].append(timed(case, speed, speed))
    bandwidth = Bandwidth(copied=5e12, peak=None)
    assert all(judge(asked, by_group[asked.group], bandwidth).met for asked in suite.demands)
    without = [result for result in by_group['ops forward'] if result.case.impl != 'triton']
    ops = [asked for asked in suite.demands if asked.group == 'ops forward']
    assert len(ops) == 3 and not any(judge(asked, without, bandwidth).met for asked in ops)


def test_scaling_spans_what_the_issue_asks():
    batches = scaling_group('batch', ['dwnet-tiny'], ['float32'], 'cpu').cases
    sizes = scaling_group('size', ['dwnet-tiny'], ['float32'], 'cpu').cases
    assert [case.batch for case in batches] == list(BATCHES)
    assert (BATCHES[0], BATCHES[-1], sizes[0].size, sizes[-1].size) == (1, 64, 224, 1024)
    assert {case.size for case in batches} == {224} and {case.batch for case in sizes} == {1}
