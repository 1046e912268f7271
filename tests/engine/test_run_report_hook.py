"""The hook changes nothing of a run: not its numbers, not its checkpoints, not its end."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from resumable_runs import config_of

from mmdwnet.engine import run_report_hook
from mmdwnet.engine.exact_resume import make_resumable
from mmdwnet.engine.run_report_hook import RunReportHook, keep_scalars, reported
from mmdwnet.errors import UserError


def runner_in(folder, hook=None, **settings):
    cfg = config_of(folder, 'epochs', epochs=2, workers=0, **settings)
    cfg.experiment_name = str(folder)  # loggers of mmengine are found by it
    make_resumable(cfg)
    folder.mkdir(exist_ok=True)
    if hook is not None:
        cfg.custom_hooks.append(hook)
    return Runner.from_cfg(cfg)


def only(folder, pattern):
    (path,) = folder.rglob(pattern)
    return path


def test_a_run_with_it_is_the_run_without_it(tmp_path):
    runner_in(tmp_path / 'without').train()
    runner = runner_in(tmp_path / 'with')
    with reported(runner, 'nano.py', []):
        runner.train()
    assert (tmp_path / 'with' / 'report.html').is_file()
    assert (tmp_path / 'with' / 'losses-0.txt').read_text() == (tmp_path / 'without' / 'losses-0.txt').read_text()
    one, other = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False) for name in ('with', 'without'))
    assert one.keys() == other.keys() and one['message_hub'].keys() == other['message_hub'].keys()
    assert one['state_dict'].keys() == other['state_dict'].keys()
    assert all(torch.equal(value, other['state_dict'][key]) for key, value in one['state_dict'].items())
    assert 'RunReportHook' not in one['meta']['cfg']


def test_a_config_may_name_it_for_a_stock_tool(tmp_path):
    runner_in(tmp_path / 'run', dict(type='mmdwnet.RunReportHook')).train()
    facts = json.loads(only(tmp_path, 'run.json').read_text())
    assert facts['ended']['how'] == 'finished' and facts['differences'] is None
    assert (tmp_path / 'run' / 'report.html').is_file()


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path):
    runner = runner_in(tmp_path / 'run')
    Path(runner.log_dir, 'run_report').write_text('a file where its folder would be')
    with reported(runner, 'nano.py', []):
        runner.train()
    assert runner.iter == 20
    assert 'WARNING - the report lacks a part: ' in only(tmp_path, '*.log').read_text()


@pytest.mark.parametrize(
    ('error', 'why'),
    [
        ('UserError("the disk is full")', 'the disk is full'),
        ('RuntimeError("Traceback\\n  File\\nits last line")', 'RuntimeError: its last line'),
        ('KeyboardInterrupt()', 'KeyboardInterrupt: '),
    ],
)
def test_an_error_is_on_the_page_and_goes_on(error, why, tmp_path):
    raising = f'from mmdwnet.errors import UserError; raise {error}'
    runner = runner_in(tmp_path / 'run', events={13: raising})
    with pytest.raises((UserError, RuntimeError, KeyboardInterrupt)), reported(runner, 'nano.py', []):
        runner.train()
    facts = json.loads(only(tmp_path, 'run.json').read_text())
    assert facts['ended']['how'] == 'failed' and facts['ended']['why'] == why
    assert 'an error stopped it' in (tmp_path / 'run' / 'report.html').read_text()


LOCAL, BOARD = dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')
WITH_SCOPE = dict(type='mmengine.LocalVisBackend')


@pytest.mark.parametrize(
    ('visualizer', 'kept'),
    [
        (dict(vis_backends=[BOARD]), [BOARD, LOCAL]),
        (dict(vis_backends=BOARD), [BOARD, LOCAL]),
        (dict(vis_backends=[WITH_SCOPE]), [WITH_SCOPE]),
        (dict(vis_backends=None), [LOCAL]),
        (dict(type='Visualizer'), [LOCAL]),
    ],
)
def test_scalars_are_kept_by_one_backend_beside_others(visualizer, kept):
    cfg = Config(dict(visualizer=visualizer))
    keep_scalars(cfg)
    keep_scalars(cfg)
    assert cfg.visualizer.vis_backends == kept


class Unreadable:
    """A part of a run that raises, whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(f'no {name}')


def test_a_run_that_the_hook_could_not_look_at_ends_as_it_would(tmp_path, monkeypatch):
    monkeypatch.setattr(run_report_hook, '_batch_size', lambda loader: Unreadable().batch_size)
    runner = runner_in(tmp_path / 'run')
    with reported(runner, 'nano.py', []):
        runner.train()
    assert runner.iter == 20
    assert 'the report lacks a part: RuntimeError: no batch_size' in only(tmp_path, '*.log').read_text()


def test_records_that_cannot_be_put_together_are_a_warning(tmp_path):
    runner, hook = runner_in(tmp_path / 'run'), RunReportHook()
    hook._records = Unreadable()
    hook.after_val_epoch(runner, {})
    assert 'the report lacks a part: RuntimeError: no parts' in only(tmp_path, '*.log').read_text()


def test_it_takes_no_unknown_argument():
    with pytest.raises(TypeError):
        RunReportHook(recipe='nano.py')
