"""A step that is not finite leaves no trace, is named in the log, and stops the run when there are too many."""

from pathlib import Path

import pytest
import torch
from guarded_runs import BAD_ON_ONE, batches, end_of, runner_of
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint
from mmengine.runner import runner as runner_module
from torch_features import needs_cpu_float16_autocast

from mmdwnet.errors import UserError

BFLOAT16 = dict(type='mmdwnet.AmpOptimWrapper')
FLOAT16 = dict(type='mmdwnet.AmpOptimWrapper', dtype='float16')
WRAPPERS = {'float32': {}, 'bfloat16': BFLOAT16, 'float16': FLOAT16}
EVERY_PRECISION = ['float32', 'bfloat16', pytest.param('float16', marks=needs_cpu_float16_autocast)]
LOOPS = {'epochs': dict(by_epoch=True, max_epochs=1), 'iterations': dict(by_epoch=False, max_iters=4)}
# what is wrong with a batch, and what the log names
FIRST = {
    'image': 'the forward pass is not finite, first in data_preprocessor (the batch itself)',
    'loss': 'the forward pass is not finite, first in the losses',
    'statistics': 'the forward pass is not finite, first in the buffer side.running_var',
    'gradient': 'the gradient is not finite, first in the gradient of head.weight',
}


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    monkeypatch.setattr(runner_module, 'collect_env', dict)  # calls compilers to log their versions


def train(data, folder, **settings):
    runner = runner_of(data, folder, **settings)
    runner.train()
    return runner


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def assert_same(state, other):
    assert state.keys() == other.keys()
    for key, value in state.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize('wrong', FIRST)
def test_a_bad_batch_leaves_no_trace(wrong, tmp_path):
    """Weights, optimizer, BN statistics and EMA are to the last bit those of a run without it; the log says so."""
    runner = train(batches('', wrong, '', ''), tmp_path / 'with')
    without = train(batches('', 'left out', '', ''), tmp_path / 'without')
    assert_same(end_of(runner), end_of(without))
    assert f'step skipped at iteration 2: {FIRST[wrong]}; 1 skipped in all' in log_of(runner)
    assert 'skipped' not in log_of(without)


@pytest.mark.parametrize('wrapper', EVERY_PRECISION)
def test_a_run_without_bad_batches_is_as_without_a_guard(wrapper, tmp_path):
    ends = []
    for guard in ({}, None):
        settings = dict(wrapper=dict(WRAPPERS[wrapper], accumulative_counts=2), guard=guard)
        ends.append(end_of(train(batches(*[''] * 4), tmp_path / str(guard), **settings)))
    assert_same(*ends)


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('wrapper', EVERY_PRECISION)
@pytest.mark.parametrize('mixer', ['DepthwiseConv', 'DynamicDepthwiseConv'])
def test_in_every_precision_and_loop(mixer, wrapper, loop, tmp_path):
    settings = dict(mixer=mixer, wrapper=dict(WRAPPERS[wrapper], clip_grad=None), train_cfg=LOOPS[loop])
    runner = train(batches('', '', 'image', ''), tmp_path / 'with', **settings)
    if loop == 'iterations':
        settings['train_cfg'] = dict(by_epoch=False, max_iters=3)
    without = train(batches('', '', 'left out', ''), tmp_path / 'without', **settings)
    assert_same(end_of(runner), end_of(without))
    assert runner.message_hub.get_info('skipped_steps') == 1


class Break(Hook):
    """Makes the weights of a layer such that it overflows."""

    def before_train(self, runner):
        runner.model.backbone.stages[1].blocks[0].mlp.fc1.weight.data.fill_(3e38)


def test_the_log_names_the_module_that_overflows(tmp_path):
    runner = runner_of(batches('', ''), tmp_path)
    runner.register_hook(Break())
    runner.train()
    assert 'first in backbone.stages.1.blocks.0.mlp.fc1; 2 skipped in all, 2 in the last 1000' in log_of(runner)


class Dice(Hook):
    """A model that draws random numbers."""

    def before_train(self, runner):
        def draw(module, args):
            torch.rand(3)

        runner.model.backbone.register_forward_pre_hook(draw)


def test_looking_again_draws_no_random_numbers(tmp_path):
    """What comes after a bad batch is as random as after a good one."""
    states = []
    for wrong in ('image', ''):
        runner = runner_of(batches('', wrong), tmp_path / f'wrong_{wrong}')
        runner.register_hook(Dice())
        runner.train()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    'window', [('image', ''), ('', 'image'), ('image', 'image'), ('', 'gradient')], ids=' then '.join
)
def test_one_bad_batch_spoils_the_step_of_accumulated_gradients(window, tmp_path):
    """Neither batch of it counts; what the good one has moved in the BN statistics stays."""
    wrapper = dict(accumulative_counts=2)
    runner = train(batches('', '', *window, '', ''), tmp_path / 'with', wrapper=wrapper)
    without = train(batches('', '', 'left out', 'left out', '', ''), tmp_path / 'without', wrapper=wrapper)
    end, other = end_of(runner), end_of(without)
    assert_same(dict(runner.model.named_parameters()), dict(without.model.named_parameters()))
    assert_same(*({k: v for k, v in state.items() if k.startswith('optimizer')} for state in (end, other)))
    assert all(torch.isfinite(value).all() for value in end.values())
    assert runner.message_hub.get_info('skipped_steps') == 1


def test_too_many_stop_the_run_with_a_checkpoint_that_resumes(tmp_path):
    bad = batches('', '', 'image', 'gradient', 'loss', '')
    runner = runner_of(bad, tmp_path, guard=dict(max_skipped=2))
    with pytest.raises(UserError, match=r'^stopped at iteration 5: 3 steps in 1000 iterations.*last_good_iter_4'):
        runner.train()
    good = train(batches('', ''), tmp_path / 'good')
    assert_same(end_of(runner), end_of(good))

    path = find_latest_checkpoint(str(tmp_path))
    assert Path(path).name == 'last_good_iter_4.pth' and path in log_of(runner) + path
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['message_hub']['runtime_info']['skipped_steps'] == 3
    longer = dict(by_epoch=False, max_iters=6)
    resumed = train(batches('', '', '', '', '', ''), tmp_path, resume=True, train_cfg=longer)
    assert resumed.iter == 6
    again = train(batches('', '', 'left out', 'left out', '', ''), tmp_path / 'again')
    assert_same(end_of(resumed), end_of(again))


@pytest.mark.parametrize(('window', 'stops'), [(3, False), (4, True)])
def test_only_recent_steps_count(window, stops, tmp_path):
    runner = runner_of(batches('loss', '', '', 'loss', ''), tmp_path, guard=dict(max_skipped=1, window=window))
    if not stops:
        runner.train()
        assert runner.message_hub.get_info('skipped_steps') == 2
        return
    with pytest.raises(UserError, match='stopped at iteration 4'):
        runner.train()


@needs_cpu_float16_autocast
def test_a_loss_scale_on_its_way_down_is_no_failure(tmp_path):
    scale = dict(init_scale=2.0**40, backoff_factor=2.0**-10)
    wrapper = dict(FLOAT16, loss_scale=scale)
    runner = train(batches(*[''] * 6), tmp_path, wrapper=wrapper, guard=dict(max_skipped=0))
    assert runner.optim_wrapper.loss_scaler.get_scale() <= 2.0**20  # it has skipped at least two steps
    assert 'skipped' not in log_of(runner)
    assert all(torch.isfinite(value).all() for value in end_of(runner).values())
    steps = {int(v) for k, v in end_of(runner).items() if k.startswith('optimizer') and k.endswith('step')}
    assert steps and steps <= {1, 2, 3, 4}


@needs_cpu_float16_autocast
@pytest.mark.parametrize('scale', [2.0**40, dict(init_scale=1.0)], ids=['fixed', 'at 1'])
def test_a_loss_scale_that_cannot_help_is_one(scale, tmp_path):
    wrong = ['', 'large gradient'] if isinstance(scale, dict) else ['', '']
    runner = runner_of(
        batches(*wrong), tmp_path, wrapper=dict(FLOAT16, loss_scale=scale), guard=dict(max_skipped=0)
    )
    with pytest.raises(UserError, match='first in the gradient of'):
        runner.train()
    assert all(torch.isfinite(value).all() for value in end_of(runner).values())


def test_every_process_skips_what_one_of_them_got_or_stops(run_python, tmp_path):
    """Two processes over gloo, the second gets the bad batch; afterwards both are where a run without it ends."""
    script = Path(__file__).with_name('guarded_runs.py')
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2]
    done = run_python(*launcher, script, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        ends = torch.load(tmp_path / f'{rank}.pth')
        for wrong in BAD_ON_ONE:
            assert_same(ends[wrong], ends['left out'])
        assert ends['stopped'].startswith('stopped at iteration 3: 1 step in 1000 iterations')
        assert FIRST['image'].split('first in ')[1] in ends['stopped']
    assert find_latest_checkpoint(str(tmp_path / 'stopped')).endswith('last_good_iter_2.pth')
    for wrong in BAD_ON_ONE:
        # a gradient is the mean of all processes' before anyone looks at it
        of_whom = '' if wrong == 'gradient' else ' (rank 1)'
        line = f'step skipped at iteration 2: {FIRST[wrong]}{of_whom}; 1 skipped in all'
        assert line in done.stdout + done.stderr


def test_a_run_that_diverges_ends_with_one_line(mini_root, run_python, tmp_path):
    config = 'configs/mini/dwnet-nano_cls_mini.py'
    options = [f'data_root={mini_root / "imagenet"}', 'train_dataloader.batch_size=4', 'max_epochs=2']
    options += ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    options += ['optim_wrapper.optimizer.lr=1e30', 'custom_hooks.0.max_skipped=2', 'param_scheduler=[]']
    command = ['tools/train.py', config, '--no-validate', '--work-dir', tmp_path, '--cfg-options', *options]
    done = run_python(*command)
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: stopped at iteration ') and 'first in backbone.' in last
    checkpoint = torch.load(find_latest_checkpoint(str(tmp_path)), weights_only=False)
    assert all(torch.isfinite(value).all() for value in checkpoint['state_dict'].values())
