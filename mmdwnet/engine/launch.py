"""What `tools/train.py` and `tools/test.py` do, for all three tasks: command line to Runner.

The options are those of the stock tools of mmpretrain, mmdet and mmseg, under the same names; where the three
differ, the task, read from the config, decides.
"""

from __future__ import annotations

import argparse
import os
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..analysis.run_report.facts import Difference, differences
from ..checkpoints import register_loaders
from ..errors import Preempted, UserError
from .amp import AMP_DTYPES, add_amp_test, set_amp
from .bad_samples import bad_samples_in_one_line, skip_bad_samples
from .batch_size import set_total_batch_size
from .config import DATALOADERS, load_config, task_of
from .distributed import leave_process_group, prepare_cpu_run, rank_and_world_size
from .exact_resume import make_resumable
from .preflight import check_config
from .run_report_hook import keep_scalars, reported


def train_parser() -> argparse.ArgumentParser:
    """The options of `tools/train.py`."""
    parser = argparse.ArgumentParser(description='Train a classifier, detector or segmentor, as its config says.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, or, without a value, from the latest one in the work directory',
    )
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision, in bfloat16')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the actual batch size over that of the recipe',
    )
    parser.add_argument(
        '--total-batch-size',
        type=int,
        help='images of an optimizer step on all processes together: chooses the batch of a process, at most that '
        'of the config, and how many are accumulated',
    )
    parser.add_argument(
        '--max-bad-samples',
        type=int,
        metavar='N',
        help='skip that many images that cannot be read or whose labels do not fit, and stop at one more; default '
        '0.1 %% of the training set, one at least',
    )
    parser.add_argument('--no-persistent-workers', action='store_true', help='start the workers anew every epoch')
    _add_common_options(parser)
    return parser


def test_parser() -> argparse.ArgumentParser:
    """The options of `tools/test.py`."""
    parser = argparse.ArgumentParser(description='Score a checkpoint, with the metrics that its config names.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--amp', action='store_true', help='test with automatic mixed precision, in bfloat16')
    parser.add_argument(
        '--out',
        help='where the predictions go: a .pkl file (classification, detection) or a folder of label maps '
        '(segmentation)',
    )
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        default='pred',
        help='what --out is to hold; metrics go to a .json file',
    )
    parser.add_argument('--show', action='store_true', help='show every prediction in a window')
    parser.add_argument('--show-dir', help='folder for a picture of every prediction beside its ground truth')
    parser.add_argument('--interval', type=int, default=1, help='draw every so manieth image')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows a picture')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, flips if the config has none')
    _add_common_options(parser)
    return parser


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--amp-dtype', choices=AMP_DTYPES, help='--amp, in this type')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default work_dirs/<name of the config>')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints that hold more than weights, which runs code from them; only for files of '
        'people you trust',
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin the memory of data loaders')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, key=value; data_root, dataset_type, metainfo.classes, img_suffix, scale, '
        'crop_size, num_classes, max_epochs and max_iters, where the config has them at top level, reach '
        'everything that was made from them',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher'
    )
    # torchrun and the older torch.distributed.launch spell it differently
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def train(args: argparse.Namespace) -> None:
    """Train as the command line says.

    Raises:
        UserError: something that the checks before the first step found.
    """
    if args.max_bad_samples is not None and args.max_bad_samples < 0:
        raise UserError(f'--max-bad-samples {args.max_bad_samples}: expected 0 or more')
    cfg = _common_config(args)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp or args.amp_dtype:
        set_amp(cfg.optim_wrapper, args.amp_dtype)
    if args.total_batch_size is not None:
        set_total_batch_size(cfg, args.total_batch_size, rank_and_world_size(cfg.launcher)[1])
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size to scale from')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.no_persistent_workers:
        _set_in_dataloaders(cfg, 'persistent_workers', False)
    bad = check_config(cfg, 'train', args.max_bad_samples)
    changes = _changes(args.config, cfg)
    make_resumable(cfg)
    skip_bad_samples(cfg, args.max_bad_samples, bad)
    runner = _build_runner(cfg)
    with bad_samples_in_one_line():
        try:
            with reported(runner, args.config, changes):
                runner.train()
        except (UserError, Preempted):  # raised on all processes alike
            leave_process_group()
            raise
    del runner
    leave_process_group()


def test(args: argparse.Namespace) -> dict[str, float]:
    """Score a checkpoint as the command line says, and return the metrics.

    Raises:
        UserError: something that the checks before the first step found.
    """
    cfg = _common_config(args)
    task = task_of(cfg)
    cfg.load_from = args.checkpoint
    _check_out(args, task)
    if args.interval < 1:
        raise UserError(f'--interval {args.interval}: expected 1 or more')
    if args.show_dir and Path(args.show_dir).is_file():
        raise UserError(f'--show-dir {args.show_dir} is a file: expected a folder')
    check_config(cfg, 'test')
    if args.tta:
        _augment(cfg, task)
    if args.amp or args.amp_dtype:
        add_amp_test(cfg, args.amp_dtype)
    changes = _changes(args.config, cfg)
    skip_bad_samples(cfg)
    if args.show or args.show_dir:
        _draw(cfg, task, args)
    if args.out and args.out_item == 'pred' and task == 'seg':
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        for evaluator in evaluators:
            evaluator.update(output_dir=args.out, keep_results=True)
    runner = _build_runner(cfg)
    if args.out and args.out_item == 'pred' and task != 'seg':
        runner.test_evaluator.metrics.append(_dump_metric(task, args.out))
    with bad_samples_in_one_line(), reported(runner, args.config, changes):
        metrics = runner.test()
    is_first = runner.rank == 0
    del runner  # which would hold on to the process group
    leave_process_group()
    if args.out and args.out_item == 'metrics' and is_first:
        mmengine.dump(metrics, args.out)
    return metrics


def _common_config(args: argparse.Namespace) -> Config:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))  # what the launchers of mmengine read
    cfg = load_config(args.config, args.cfg_options)
    if args.trust_checkpoint:
        register_loaders(trust=True)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if args.no_pin_memory:
        _set_in_dataloaders(cfg, 'pin_memory', False)
    return cfg


def _set_in_dataloaders(cfg: Config, key: str, value: bool) -> None:
    for name in DATALOADERS:
        if cfg.get(name):
            cfg[name][key] = value


def _changes(path: str, cfg: Config) -> list[Difference]:
    """What the command line has changed in a config."""
    return differences(Config.fromfile(path).to_dict(), cfg.to_dict())


def _build_runner(cfg: Config) -> Runner:
    keep_scalars(cfg)
    prepare_cpu_run(cfg, cfg.launcher)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _check_out(args: argparse.Namespace, task: str) -> None:
    if not args.out:
        return
    if args.out_item == 'metrics':
        wanted = ('.json', '.yaml', '.yml', '.pkl')
    else:
        wanted = ('.pkl', '.pickle') if task != 'seg' else ('',)
    if Path(args.out).suffix not in wanted:
        what = 'a folder' if wanted == ('',) else f'a file that ends in {" or ".join(wanted)}'
        raise UserError(f'--out {args.out}: the {args.out_item} of this task go to {what}')


def _dump_metric(task: str, out: str) -> DumpResults:
    if task == 'det':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=out)
    return DumpResults(out_file_path=out)


def _draw(cfg: Config, task: str, args: argparse.Namespace) -> None:
    """Turn the stock visualisation hook of the task on."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise UserError('--show and --show-dir need a visualization entry in default_hooks of the config')
    hook.update(show=args.show, wait_time=args.wait_time, interval=args.interval)
    hook['enable' if task == 'cls' else 'draw'] = True
    if not args.show_dir:
        return
    folder = str(Path(args.show_dir).resolve())
    if task == 'cls':
        hook['out_dir'] = folder
    elif task == 'det':
        hook['test_out_dir'] = folder
    else:
        cfg.visualizer['save_dir'] = folder


def _augment(cfg: Config, task: str) -> None:
    """Wrap model and pipeline for test-time augmentation: the config's own, or a horizontal flip."""
    if task == 'det' and (cfg.model.get('roi_head') or {}).get('mask_head'):
        raise UserError('--tta: mmdet merges the boxes of augmented images but not masks: test without --tta')
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(
            cls=dict(type='AverageClsScoreTTA'),
            det=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
            seg=dict(type='SegTTAModel'),
        )[task]
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(cfg.test_dataloader.dataset.pipeline)
        if task == 'det':
            pack['meta_keys'] = (*pack.get('meta_keys', ()), 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
