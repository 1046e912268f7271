"""The report of real runs of all three tasks, in a real browser; of one that was killed; TensorBoard beside it."""

import html
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, look
from warm_python import start_python
from written_runs import write_session

from mmdwnet.analysis.run_report.collecting import collect
from mmdwnet.analysis.run_report.page import OF_TRAINING, SECTIONS
from mmdwnet.analysis.run_report.per_class import class_table

ROOT = Path(__file__).resolve().parents[2]
# config, layout, what makes it a few steps, the metric, its unit in parts of 1
TASKS = {
    'cls': ('dwnet-nano_cls_mini', 'imagenet', ['train_cfg.max_epochs=2'], 'accuracy/top1', 0.01),
    'det': ('dwnet-nano_mask-rcnn_mini', 'coco', ['train_cfg.max_epochs=1'], 'coco/bbox_mAP', 1),
    'seg': (
        'dwnet-nano_upernet_mini',
        'ade',
        ['train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=4'],
        'mIoU',
        0.01,
    ),
}
EVERY_TASK = pytest.mark.parametrize('task', TASKS)
TENSORBOARD = 'visualizer.vis_backends.0.type=TensorboardVisBackend'  # docs/report.md has this line
TOOL = 'tools/analysis_tools/report.py'


def arguments(task, mini_root, folder, *more):
    config, layout, steps, *_ = TASKS[task]
    few = ['train_cfg.val_interval=1', 'train_dataloader.batch_size=4', 'default_hooks.logger.interval=1']
    few += [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    few += [f'{part}_dataloader.persistent_workers=False' for part in ('train', 'val', 'test')]
    options = [f'data_root={mini_root / layout}', *few, *steps, *more]
    return [f'configs/mini/{config}.py', '--work-dir', str(folder), '--cfg-options', *options]


def succeeded(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def training_at(step, arguments):
    """A training in a process of its own that has logged a step, such as '[3][2/5]'."""
    process = start_python('tools/train.py', *arguments)
    for line in process.stdout:
        if re.search(rf'Epoch\(train\)\s+{re.escape(step)}', line):
            return process
    raise AssertionError(f'it ended before {step}: exit status {process.wait(60)}')


def text_of(page):
    words = re.sub(r'<style>.*?</style>|<[^>]+>', ' ', page.read_text(), flags=re.S)
    return ' '.join(html.unescape(words).split())


@pytest.fixture(scope='module')
def trained(mini_root, run_python, tmp_path_factory):
    """Each task trained once, with TensorBoard; the work directory by task."""
    folders = {}

    def train(task):
        if task not in folders:
            folders[task] = tmp_path_factory.mktemp(task)
            succeeded(run_python('tools/train.py', *arguments(task, mini_root, folders[task], TENSORBOARD)))
        return folders[task]

    return train


@EVERY_TASK
def test_a_training_leaves_a_page_that_a_browser_shows(task, trained):
    folder = trained(task)
    page = folder / 'report.html'
    assert page.stat().st_size < 3e6
    with chromium() as browser:
        text = look(browser, page, SECTIONS)
    assert 'The training is through.' in text and 'No record' not in text
    assert 'train_dataloader.batch_size' in text  # differs from the recipe
    assert f'configs/mini/{TASKS[task][0]}.py' in text and 'mmengine' in text
    assert page.read_text().count('data:image/jpeg;base64') >= 10


@EVERY_TASK
def test_the_records_say_what_the_metric_says(task, trained):
    run = collect(trained(task))
    metric, unit = TASKS[task][3:]
    table, logged = class_table(run.evaluation), run.evaluations[-1][metric]
    mean = table.confusion.trace() / table.confusion.sum() if task == 'cls' else table.mean
    assert mean == pytest.approx(unit * logged, abs=1e-3)
    assert run.evaluation.facts['images'] == 10 and len(run.evaluation.samples) == 10


@EVERY_TASK
def test_tensorboard_by_one_option(task, trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = trained(task).rglob('events.out.tfevents.*')
    written = EventAccumulator(str(events))
    written.Reload()
    tags = written.Tags()['scalars']
    assert {'loss', 'lr', TASKS[task][3]} <= set(tags)
    run = collect(trained(task))
    losses = [event.value for event in written.Scalars('loss')]
    assert losses == pytest.approx([line['loss'] for line in run.steps])
    assert TENSORBOARD in (ROOT / 'docs' / 'report.md').read_text()


def test_a_test_leaves_a_page_of_its_own(trained, mini_root, run_python, tmp_path):
    checkpoint = Path((trained('cls') / 'last_checkpoint').read_text())
    config, *options = arguments('cls', mini_root, tmp_path)
    succeeded(run_python('tools/test.py', config, checkpoint, *options))
    sections = [name for name in SECTIONS if name not in OF_TRAINING]
    with chromium() as browser:
        text = look(browser, tmp_path / 'report.html', sections)
    expected = collect(trained('cls')).evaluations[-1]['accuracy/top1']
    assert 'The test is through.' in text and f'{expected:.2f}' in text and str(checkpoint) in text


def test_two_processes_count_every_image_once(mini_root, tmp_path):
    """Nine images, of which the sampler gives one twice."""
    more = ['val_dataloader.dataset.indices=9', 'train_dataloader.batch_size=2', 'train_cfg.max_epochs=1']
    config, *options = arguments('cls', mini_root, tmp_path, *more)
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    command = ['tools/dist_train.sh', config, '2', *options]
    succeeded(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300))
    run = collect(tmp_path)
    assert sorted(run.evaluation.rows['images']['image'].tolist()) == list(range(9))
    table = class_table(run.evaluation).confusion
    assert 100 * table.trace() / 9 == pytest.approx(run.evaluations[-1]['accuracy/top1'], abs=0.01)
    assert [each.index for each in run.evaluation.samples] == list(range(9))
    assert run.facts['processes'] == 2 and 'The training is through.' in text_of(tmp_path / 'report.html')


def test_killed_in_the_middle_there_is_a_report_of_what_there_is(mini_root, run_python, tmp_path):
    process = training_at('[3][2/5]', arguments('cls', mini_root, tmp_path, 'train_cfg.max_epochs=50'))
    while_running = succeeded(run_python(TOOL, tmp_path, '--out', tmp_path / 'running.html'))
    assert 'The training goes on.' in while_running.stdout
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not (tmp_path / 'report.html').exists()
    (session,) = [path for path in tmp_path.iterdir() if path.name.startswith('20') and path.is_dir()]
    with (session / 'vis_data' / 'scalars.json').open('a') as file:
        file.write('{"lr": 0.00')  # as a killed process may leave it
    done = succeeded(run_python(TOOL, tmp_path))
    assert 'did not end' in done.stdout
    with chromium() as browser:
        text = look(browser, tmp_path / 'report.html', SECTIONS)
    last = int(collect(tmp_path).steps[-1]['step'])
    assert last >= 12 and f'It came to iteration {last} of 250' in text
    assert 'its process was killed' in text[: text.index('Metrics')]
    assert 'could not be read and are left out: 1' in text and 'No record' not in text


@pytest.mark.slow
def test_gone_on_with_after_a_signal_it_is_one_run(mini_root, run_python, tmp_path):
    config, *options = arguments('cls', mini_root, tmp_path)
    process = training_at('[1][2/5]', [config, *options])
    process.send_signal(signal.SIGUSR1)
    assert process.wait(120) == 75
    text = text_of(tmp_path / 'report.html')
    assert 'it gave way to a signal' in text and 'gave way at iteration' in text
    succeeded(run_python('tools/train.py', config, '--resume', *options))
    run = collect(tmp_path)
    assert [line['step'] for line in run.steps] == list(range(1, 11)) and len(run.sessions) == 2
    text = text_of(tmp_path / 'report.html')
    assert 'The training is through.' in text and 'preempted' in text


@EVERY_TASK
def test_all_sections_have_their_numbers(task, trained):
    text = text_of(trained(task) / 'report.html')
    facts = json.loads(next(trained(task).rglob('run.json')).read_text())
    assert 'images a second' in text and facts['command'] in text
    assert (facts['machine']['commit'] or 'not a git checkout').removesuffix('-dirty') in text
    assert all(name in text for name in collect(trained(task)).evaluation.facts['classes'])


def test_a_checkpoint_is_not_overwritten_with_the_page(run_python, tmp_path):
    write_session(tmp_path)
    (tmp_path / 'epoch_1.pth').write_text('weights')
    done = run_python(TOOL, tmp_path, '--out', tmp_path / 'epoch_1.pth')
    assert done.returncode == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert 'expected a name that ends in .html' in done.stderr
    assert (tmp_path / 'epoch_1.pth').read_text() == 'weights'


def test_a_folder_that_is_no_run_is_one_line_and_verbose_a_traceback(run_python, tmp_path):
    shown = run_python(TOOL, tmp_path, '--verbose')
    trace, _, line = shown.stderr.rstrip().rpartition('\n')
    assert shown.returncode == 2 and trace.startswith('Traceback') and line.startswith('error: ')
