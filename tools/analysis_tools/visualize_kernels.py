"""See what a trained network sums: `python tools/analysis_tools/visualize_kernels.py CONFIG CHECKPOINT IMAGE`.

Draws the kernels, windows or attention maps of one block beside the image; with --erf the effective receptive
field of the backbone instead. CONFIG is that of a classifier, detector or segmentor; see docs/see-the-weights.md.
"""

try:
    import argparse
    import logging
    import warnings
    from pathlib import Path

    from mmengine.config import DictAction
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mmdwnet.analysis import mixing_maps, watching
    from mmdwnet.analysis.inspected import Inspected, inspect
    from mmdwnet.errors import UserError, run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None

SAMPLES = 16  # gradients of a receptive field


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the weights with which a network sums, for one image.')
    add = parser.add_argument
    add('config', metavar='CONFIG', help='config of the model')
    add('checkpoint', metavar='CHECKPOINT', help="what it has trained, path or URL; 'none' for random weights")
    add('image', metavar='IMAGE', help='image file')
    add('--out', type=Path, default=Path('.'), metavar='DIR', help='folder for the picture; default this one')
    add(
        '--block',
        help='stage.block of a pyramid, block of an isotropic net, from 0, as in the names of weights; default '
        'the last block of the third stage, or the one in the middle',
    )
    add(
        '--positions',
        nargs='+',
        metavar='Y,X',
        help='in pixels of what the network sees (48,20) or in parts of it (0.5,0.25); default the centre and '
        'four around it',
    )
    channels = parser.add_mutually_exclusive_group()
    channels.add_argument('--channels', type=int, nargs='+', metavar='N', help='output channels, from 0')
    channels.add_argument(
        '--groups',
        type=int,
        nargs='+',
        metavar='N',
        help='groups of channels with the same weights (heads of attention), from 0; default up to four',
    )
    add(
        '--minus-mean',
        action='store_true',
        help='draw what is left of the weights without their mean over the positions: nothing, if they are the '
        'same everywhere',
    )
    add(
        '--erf',
        choices=('image', 'random'),
        help='draw the effective receptive field instead, on IMAGE or on random images of its size',
    )
    add('--device', default='cpu', help='default cpu')
    add('--cfg-options', nargs='+', action=DictAction, help='settings to override, key=value, as in training')
    add(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle CHECKPOINT even if that can run code from it; only for files of people you trust',
    )
    args = parser.parse_args()
    if args.erf and (args.block or args.positions or args.channels or args.groups or args.minus_mean):
        parser.error('--erf is of the whole backbone: give no option of weights beside it')
    return args


def main() -> None:
    args = parse_args()
    # the libraries warn about their own stock configs while they build them
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f'--out {args.out} is a file: expected a folder')
    inspected = inspect(
        args.config, args.checkpoint, args.image, args.device, args.cfg_options, args.trust_checkpoint
    )
    stem = f'{Path(args.config).stem}_{Path(args.image).stem}'
    picture = draw_field(args, inspected, stem) if args.erf else draw_weights(args, inspected, stem)
    print(f'wrote {picture}')


def draw_weights(args: argparse.Namespace, inspected: Inspected, stem: str) -> Path:
    from mmdwnet.analysis.mixing_pictures import draw  # matplotlib is slow to import

    block = watching.find_block(inspected.backbone, args.block)
    places = watching.places_of(args.positions, inspected.images.shape[2:], block.stride)
    seen = watching.watch(inspected.backbone, block.mixer, inspected.images)
    places += range(seen.tokens or 0)
    found = mixing_maps.find_weights(seen, places, args.channels, args.groups)
    if args.minus_mean:
        found = mixing_maps.without_mean(found)
    suffix = '_minus-mean' if args.minus_mean else ''
    args.out.mkdir(parents=True, exist_ok=True)
    return draw(inspected, block, found, args.out / f'{stem}_block-{block.key}{suffix}.png')


def draw_field(args: argparse.Namespace, inspected: Inspected, stem: str) -> Path:
    from mmdwnet.analysis.receptive_field import draw, receptive_fields

    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task('gradients', total=SAMPLES)
        random = args.erf == 'random'
        fields = receptive_fields(
            inspected.backbone, inspected.images, SAMPLES, random, lambda: progress.advance(bar)
        )
    args.out.mkdir(parents=True, exist_ok=True)
    of = f'{SAMPLES} random images' if random else 'this image'
    return draw(inspected, fields, of, args.out / f'{stem}_erf-{args.erf}.png')


if __name__ == '__main__':
    run_tool(main)
