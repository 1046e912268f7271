"""The comparison of trainings, on two nets and ten seconds; and what its table and picture are made of."""

import json
import math
import re

import pytest
from PIL import Image
from rich.console import Console

from mmdwnet.analysis import convergence, convergence_chart
from mmdwnet.analysis.convergence import Run
from mmdwnet.errors import UserError

NETS = ('dwnet-nano', 'deit-nano')
TOOL = 'tools/analysis_tools/compare_mixers.py'


def run_of(name='dwnet-nano', asked=2.0, accuracy=50.0):
    return Run(name, asked, 1.9, 3, 123.4, 1_234_567, {1: 2.0, 2: 1.5, 3: 1.25}, {2: 30.0, 3: accuracy})


@pytest.fixture(scope='module')
def compared(mini_root, run_python, tmp_path_factory):
    """Compare two nets for some seconds; return the arguments, the folder and the finished process."""
    out = tmp_path_factory.mktemp('compared')
    arguments = [TOOL, *(f'configs/mini/{net}_cls_mini.py' for net in NETS), '--minutes', 0.1, '--out', out]
    options = ['--cfg-options', f'data_root={mini_root}/imagenet', 'train_dataloader.batch_size=8']
    options += [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
    options += [f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')]
    return [*arguments, *options], out, run_python(*arguments, *options)


@pytest.mark.slow  # trains two nets by the clock
def test_each_net_is_trained_for_the_minutes(compared):
    """What was asked for is met within a factor of four: a machine under test is busy now and idle then."""
    _, out, done = compared
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for net in NETS:
        run = json.loads((out / net / 'run.json').read_text())
        assert run['epochs'] == max(map(int, run['losses'])) == max(map(int, run['accuracies']))
        assert len(run['losses']) == run['epochs'] > 1
        assert 0.1 / 4 < run['minutes'] < 0.1 * 4
        # 2 batches of 8 an epoch
        assert run['images_per_second'] == pytest.approx(16 * run['epochs'] / run['minutes'] / 60)
        assert run['losses'][str(run['epochs'])] < run['losses']['1']
        assert (out / net / f'training/epoch_{run["epochs"]}.pth').is_file()
        assert re.search(rf'{net} .*\b{run["epochs"]}\b', done.stdout)
        assert f'| {net} |' in (out / 'convergence.md').read_text()
    with Image.open(out / 'convergence.png') as picture:
        assert picture.size == (1650, 1110)


@pytest.mark.slow  # trains two nets by the clock
def test_the_cosine_ends_with_the_training(compared):
    _, out, _ = compared
    (log,) = (out / 'deit-nano/training').glob('*/vis_data/scalars.json')
    rates = [entry['lr'] for entry in map(json.loads, log.read_text().splitlines()) if 'loss' in entry]
    last = 2 * len(rates) - 1  # of the steps, counted from 0
    assert rates[-1] == pytest.approx(2e-3 * (1 + math.cos(math.pi * last / (last + 1))) / 2, rel=1e-3)


@pytest.mark.slow  # trains two nets by the clock
def test_what_was_trained_is_not_trained_again(compared, run_python):
    arguments, out, _ = compared
    files = {path: path.stat().st_mtime_ns for path in out.rglob('*.log')}
    done = run_python(*arguments)
    assert done.returncode == 0
    assert files == {path: path.stat().st_mtime_ns for path in out.rglob('*.log')}


@pytest.mark.slow  # trains two nets by the clock
def test_another_time_needs_another_folder(compared, run_python):
    arguments, *_ = compared
    done = run_python(*[5 if argument == 0.1 else argument for argument in arguments])
    assert done.returncode == 2
    assert 'a training of 0.1 minutes, and 5 are asked for' in done.stderr


def test_two_configs_of_one_name_are_refused(tmp_path):
    configs = [tmp_path / 'a/net_cls_mini.py', tmp_path / 'net.py']
    with pytest.raises(UserError, match='net is the name of two configs'):
        convergence.compare(tmp_path, configs, 1, tmp_path / 'out', Console(quiet=True))


def test_a_detector_cannot_be_compared(tmp_path):
    entries = [dict(loss=1.0, time=0.1, epoch=1, iter=2, step=2), {'coco/bbox_mAP': 0.5, 'step': 1}]
    with pytest.raises(UserError, match='mask-rcnn.py logs no accuracy/top1: expected the config of a classifier'):
        convergence._as_run(entries, 'mask-rcnn', 1.0, 2, tmp_path / 'mask-rcnn.py')


def test_the_table_has_the_best_first():
    runs = [run_of('a', accuracy=40.0), run_of('b', accuracy=60.0)]
    assert convergence_chart.rows(runs) == [
        ['b', '60.0', '1.250', '3', '123', '1.23 M', '1.90'],
        ['a', '40.0', '1.250', '3', '123', '1.23 M', '1.90'],
    ]
    assert convergence_chart.markdown(runs, 'a machine').endswith('One run each, on a machine\n')
