"""How training scales: the arithmetic, what a config sends, the measurement, and that predictions say so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.dist import get_world_size

from mmdwnet.analysis.scaling import measuring, report
from mmdwnet.analysis.scaling.loading import loading_rate, make_images
from mmdwnet.analysis.scaling.measuring import Measured
from mmdwnet.analysis.scaling.model import Cluster, Link, Training, not_hidden, powers_of_two, predict
from mmdwnet.analysis.scaling.traffic import traffic_of
from mmdwnet.analysis.scaling.worker import ALONE, DEFAULT, SETTINGS, Net, Plan
from mmdwnet.engine.config import load_config
from mmdwnet.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
UPERNET = str(CONFIGS / 'ade20k' / 'upernet_{}_8xb2-160k_ade20k-512x512.py')
CLUSTER = Cluster(8, Link(100e9, 3e-6), Link(10e9, 10e-6))
TRAINING = Training(step_seconds=0.1, parameters=25_000_000, batch_size=32)


def without_latency(cluster):
    return replace(
        cluster, within=replace(cluster.within, latency=0.0), between=replace(cluster.between, latency=0)
    )


@pytest.mark.parametrize(('gpus', 'bandwidth'), [(2, 100e9), (8, 100e9), (16, 10e9), (1000, 10e9)])
def test_an_all_reduce_sends_every_byte_twice_but_for_its_own_part(gpus, bandwidth):
    seconds = without_latency(CLUSTER).all_reduce(1e9, gpus)
    assert seconds == pytest.approx(2 * (gpus - 1) / gpus * 1e9 / bandwidth)


def test_small_messages_take_their_hops_along_the_shorter_of_ring_and_tree():
    """One GPU a node: 63 hops one way and 63 back along the ring, 6 up and 6 down the tree."""
    flat = Cluster(1, CLUSTER.within, Link(10e9, 10e-6))
    assert flat.all_reduce(0, 2) == pytest.approx(2 * 10e-6)
    assert flat.all_reduce(0, 64) == pytest.approx(2 * 6 * 10e-6)
    assert flat.all_gather(0, 64) == pytest.approx(63 * 10e-6)
    assert CLUSTER.all_reduce(0, 8) == pytest.approx(2 * 7 * 3e-6)
    assert CLUSTER.all_reduce(1e6, 1) == 0


def test_what_backward_does_not_hide():
    """Four messages, ready at 1/4 ... 4/4 of a backward of one second."""
    training = Training(1.5, 1000, 1, bucket_bytes=1000, backward_share=2 / 3)
    assert not_hidden(training, lambda size: 0.1) == pytest.approx(0.1)  # only the last one
    assert not_hidden(training, lambda size: 0.5) == pytest.approx(0.25 + 4 * 0.5 - 1)  # one after the other
    assert not_hidden(replace(training, overlap=0.0), lambda size: 0.1) == pytest.approx(0.4)
    assert not_hidden(replace(training, overlap=0.5), lambda size: 0.1) == pytest.approx(0.25)
    sizes = []
    not_hidden(replace(training, bucket_bytes=1500), lambda size: sizes.append(size) or 0.0)
    assert sizes == [1500, 1500, 1000]


def test_one_gpu_waits_for_nothing_and_more_are_never_better_than_linear():
    training = replace(TRAINING, sync_bn=(64, 128), sharded=True)
    found = [predict(training, CLUSTER, gpus) for gpus in powers_of_two(1024)]
    assert [p.gpus for p in found] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert found[0].step == pytest.approx(0.1) and found[0].efficiency == 1
    efficiencies = [p.efficiency for p in found]
    assert efficiencies == sorted(efficiencies, reverse=True) and efficiencies[-1] < 0.99
    speeds = [p.images_per_second for p in found]
    assert speeds == sorted(speeds)
    slow = predict(training, replace(CLUSTER, between=Link(1e9, 10e-6)), 64)
    assert slow.efficiency < predict(training, CLUSTER, 64).efficiency


def test_accumulation_spreads_gradients_over_batches_but_not_sync_bn():
    training = replace(TRAINING, sync_bn=(64,) * 50)
    one, four = (predict(replace(training, accumulation=count), CLUSTER, 64) for count in (1, 4))
    assert four.gradients == pytest.approx(one.gradients) and one.gradients > 0
    assert four.sync_bn == pytest.approx(4 * one.sync_bn) and one.sync_bn > 0
    assert (four.compute, four.images) == pytest.approx((4 * one.compute, 4 * one.images))


def test_a_sharded_optimizer_sends_the_weights_besides():
    plain, sharded = (predict(replace(TRAINING, sharded=value), without_latency(CLUSTER), 16) for value in (0, 1))
    assert sharded.sharding == pytest.approx(15 / 16 * 100e6 / 10e9)
    assert sharded.step == pytest.approx(plain.step + sharded.sharding)


def test_a_loader_that_is_too_slow_sets_the_pace():
    slow = predict(replace(TRAINING, loading_rate=160.0), CLUSTER, 16)  # 32 images in 0.2 s
    assert slow.step == pytest.approx(0.2)
    assert slow.images_per_second == pytest.approx(16 * 160)
    assert predict(replace(TRAINING, loading_rate=1e4), CLUSTER, 16).waiting == 0


@pytest.mark.parametrize(('net', 'of_a_block'), [('dwnet-tiny', 4), ('dynamic-dwnet-tiny', 5), ('swin-tiny', 0)])
def test_sync_bn_of_a_segmentor_is_counted_as_on_a_gpu(net, of_a_block):
    """12 blocks; four maps that are returned; 13 layers of the two heads. Here they are BNs, for want of a GPU."""
    traffic = traffic_of(load_config(UPERNET.format(net)))
    assert len(traffic.sync_bn) == 12 * of_a_block + 4 * bool(of_a_block) + 13
    assert traffic.sync_bn_messages == 2 * len(traffic.sync_bn)
    assert traffic.sync_bn_bytes == sum(4 * (2 * c + 1) + 4 * 2 * c for c in traffic.sync_bn)
    assert traffic.gradient_bytes == 4 * traffic.parameters


def test_a_classifier_has_no_sync_bn_and_what_is_frozen_sends_nothing():
    config = str(CONFIGS / 'mini' / 'dwnet-nano_cls_mini.py')
    all_of_it = traffic_of(load_config(config))
    assert all_of_it.sync_bn == () and 1_000_000 < all_of_it.parameters < 1_500_000
    assert traffic_of(load_config(config, {'model.backbone.frozen_stages': 2})).parameters < all_of_it.parameters
    frozen = {'model.backbone.frozen_stages': 4}
    assert len(traffic_of(load_config(UPERNET.format('dwnet-tiny'), frozen)).sync_bn) == 13 + 4


def times_of(ranks, link, sizes=(4, 2**10, 2**18, 2**22, 2**25)):
    return {size: 2 * (ranks - 1) * (link.latency + size / ranks / link.bandwidth) for size in sizes}


def test_latency_and_bandwidth_come_back_from_times():
    link, generator = Link(2e9, 50e-6), np.random.default_rng(0)
    for ranks in (2, 4):
        exact = Measured(ranks, times_of(ranks, link), {}, {}).link
        assert (exact.bandwidth, exact.latency) == pytest.approx((2e9, 50e-6))
        noisy = {size: s * generator.uniform(0.95, 1.05) for size, s in times_of(ranks, link).items()}
        found = Measured(ranks, noisy, {}, {}).link  # within the noise, as five sizes tell
        assert (found.bandwidth, found.latency) == pytest.approx((2e9, 50e-6), rel=0.06)


@pytest.mark.parametrize('hidden', [0.0, 0.4, 1.0])
def test_the_check_is_right_where_the_model_is(hidden):
    """Steps made by the model itself, on two cores: twice as long on four processes."""
    link, parameters = Link(2e9, 50e-6), 20_000_000
    here = Cluster(4, link, link)

    def result(ranks, slower):
        step = predict(Training(0.2, parameters, 1, overlap=hidden), here, ranks).step
        return Measured(
            ranks, times_of(ranks, link), {'tiny': {ALONE: 0.2, DEFAULT: slower * step}}, {'tiny': parameters}
        )

    check = measuring.check(result(1, 1), result(2, 1), result(4, 2), 'tiny', cores=2)
    assert check.overlap == pytest.approx(hidden)
    assert check.predicted == pytest.approx(check.measured)


def test_local_processes_are_measured_with_every_setting():
    plan = Plan(nets=(Net('nano', 32, 2),), sizes=(4, 2**16), rounds=1)
    one, two = measuring.measure(plan, (1, 2))
    assert get_world_size() == 1  # it happened in processes of their own
    assert (one.ranks, two.ranks, one.all_reduce) == (1, 2, {})
    assert set(two.all_reduce) == {4, 2**16} and all(s > 0 for s in two.all_reduce.values())
    for result in (one, two):
        assert tuple(result.steps['nano']) == SETTINGS
        assert all(seconds > 0 for seconds in result.steps['nano'].values())
    assert two.parameters == one.parameters and measuring.bytes_of(two, 'nano') > 4_000_000
    sheet = report.steps_sheet(plan, [one, two])
    assert len(sheet.rows) == len(SETTINGS) and 'MB of gradients' in sheet.below[0]


def test_processes_that_fail_are_one_line():
    with pytest.raises(UserError, match="measuring on 1 processes failed: ValueError: unknown arch 'huge'"):
        list(measuring.measure(Plan(nets=(Net('huge', 32, 2),), sizes=(4,), rounds=1), (1,)))


def test_loading_of_images_like_those_of_imagenet(tmp_path):
    images = make_images(tmp_path, count=4)
    assert 90e3 < sum(path.stat().st_size for path in images) / 4 < 130e3
    cfg = load_config(str(CONFIGS / 'imagenet' / 'dwnet-tiny_8xb128_in1k.py'))
    rate = loading_rate(cfg, images, seconds=0.2)
    assert 10 < rate < 10_000
    assert loading_rate(cfg, images[:1], seconds=0.2) > 10


def test_a_prediction_is_called_one_wherever_it_appears(run_python, tmp_path):
    tool = 'tools/analysis_tools/scaling.py'
    done = run_python(tool, '--step-seconds', '0.1', '--params', '25', '--most', '16', '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / 'out' / 'prediction.json').read_text())
    text = (tmp_path / 'out' / 'prediction.md').read_text()
    for place in (done.stdout, data['kind'], text):
        assert 'PREDICTION, not measured' in place
    assert [p['gpus'] for p in data['predictions']] == [1, 2, 4, 8, 16]
    assert 'Assumed: ' in text and 'Given: 100 ms' in text
    assert (tmp_path / 'out' / 'prediction.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        ([], 'expected --step-seconds (a prediction) or --measure'),
        (['--step-seconds', '0.1'], 'needs --config or --params, one of them'),
        (['--step-seconds', '0', '--params', '1'], 'expected more than 0, got 0'),
        (['--step-seconds', '1', '--config', 'none.py'], 'config none.py not found'),
    ],
)
def test_what_is_missing_is_said_in_a_line(arguments, line, run_python):
    done = run_python('tools/analysis_tools/scaling.py', *arguments)
    assert done.returncode == 2 and line in done.stderr and 'Traceback' not in done.stderr
