"""Predict how training scales from 1 to 1024 GPUs, or measure what the prediction rests on, on local processes.

    scaling.py --config CONFIG --step-seconds 0.1 --inter-bandwidth 25
    scaling.py --measure --out docs/scale

`--step-seconds` is a step on one GPU, which tools/doctor.py CONFIG or tools/analysis_tools/benchmark.py measures
there. A prediction is called one in the table, the picture and the files. docs/scale.md explains both.
"""

import argparse
import json
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmdwnet.analysis.benchmark.machine import describe_machine, headline
from mmdwnet.analysis.scaling import measuring, report
from mmdwnet.analysis.scaling.model import Cluster, Link, Training, powers_of_two, predict
from mmdwnet.analysis.scaling.traffic import Traffic, traffic_of
from mmdwnet.analysis.scaling.worker import Plan
from mmdwnet.engine.config import load_config
from mmdwnet.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = ROOT / 'configs' / 'imagenet' / 'dwnet-tiny_8xb128_in1k.py'  # its pipeline is measured


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    step = parser.add_argument_group('a step on one GPU')
    step.add_argument('--step-seconds', type=positive, metavar='S', help='of one batch, measured')
    step.add_argument('--config', help='takes parameters, SyncBN layers, batch and accumulation from it')
    step.add_argument('--params', type=positive, metavar='MILLIONS', help='instead of a config')
    step.add_argument(
        '--batch-size', type=whole, metavar='N', help="images of a batch; default the config's, or 1"
    )
    step.add_argument('--accumulation', type=whole, metavar='N', help="default the config's, or 1")
    step.add_argument('--sharded', action='store_true', help='with mmdwnet.ShardedAdamW')
    step.add_argument('--bucket-mb', type=positive, default=25.0, help='bucket_cap_mb; default %(default)s')
    step.add_argument('--overlap', type=share, default=1.0, help='hidden of what backward can hide; default 1')
    step.add_argument(
        '--loading-rate', type=positive, metavar='R', help='images/s for a GPU; default always enough'
    )
    links = parser.add_argument_group('the cluster; the defaults are assumptions, nccl-tests measures yours')
    links.add_argument('--gpus-per-node', type=whole, default=8, metavar='N', help='default %(default)s')
    links.add_argument(
        '--intra-bandwidth', type=positive, default=150.0, metavar='GB/s', help='default %(default)s'
    )
    links.add_argument(
        '--inter-bandwidth', type=positive, default=25.0, metavar='GB/s', help='default %(default)s'
    )
    links.add_argument('--intra-latency', type=positive, default=3.0, metavar='US', help='default %(default)s')
    links.add_argument('--inter-latency', type=positive, default=10.0, metavar='US', help='default %(default)s')
    links.add_argument('--most', type=whole, default=1024, metavar='GPUS', help='default %(default)s')
    add = parser.add_argument
    add('--measure', action='store_true', help='time 1, 2 and 4 local processes; minutes')
    add('--rounds', type=whole, default=9, help='samples of each, of which the median counts; default %(default)s')
    add('--out', type=Path, metavar='FOLDER', help='for the tables as JSON and Markdown, and the picture')
    args = parser.parse_args()
    if not args.measure and args.step_seconds is None:
        parser.error('expected --step-seconds (a prediction) or --measure')
    if args.step_seconds is not None and (args.config is None) == (args.params is None):
        parser.error('--step-seconds needs --config or --params, one of them')
    return args


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'expected more than 0, got {text}')
    return value


def whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected 1 or more, got {text}')
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'expected 0 to 1, got {text}')
    return value


def main() -> None:
    args = parse_args()
    if args.out:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'--out {args.out}: no folder to write to ({error.strerror}); name another') from error
    if args.measure:
        measure(args)
    if args.step_seconds is not None:
        predict_scaling(args)


def predict_scaling(args: argparse.Namespace) -> None:
    """Print and write a prediction."""
    name, batch, accumulation, traffic = f'{args.params} M parameters', 1, 1, None
    if args.config:
        cfg = load_config(args.config)
        traffic, name = traffic_of(cfg), Path(args.config).stem
        batch = cfg.train_dataloader.batch_size
        accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    else:
        traffic = Traffic(round(args.params * 1e6), ())
    training = Training(
        step_seconds=args.step_seconds,
        parameters=traffic.parameters,
        batch_size=args.batch_size or batch,
        sync_bn=traffic.sync_bn,
        bucket_bytes=args.bucket_mb * 2**20,
        accumulation=args.accumulation or accumulation,
        sharded=args.sharded,
        overlap=args.overlap,
        loading_rate=args.loading_rate,
    )
    within = Link(args.intra_bandwidth * 1e9, args.intra_latency * 1e-6)
    between = Link(args.inter_bandwidth * 1e9, args.inter_latency * 1e-6)
    cluster = Cluster(args.gpus_per_node, within, between)
    predictions = [predict(training, cluster, gpus) for gpus in powers_of_two(args.most)]
    sheet = report.prediction_sheet(training, cluster, predictions)
    show(sheet)
    if args.out:
        from mmdwnet.analysis.scaling.charts import draw_prediction  # matplotlib is slow to import

        data = report.as_json(training, cluster, predictions)
        path = draw_prediction(training, cluster, predictions, name, args.out / 'prediction.png')
        write(args.out, 'prediction', data, [sheet], path)


def measure(args: argparse.Namespace) -> None:
    """Measure on local processes, and print and write it."""
    from mmdwnet.analysis.scaling.charts import draw_measured
    from mmdwnet.analysis.scaling.loading import loading_rate, make_images

    plan, progress = Plan(rounds=args.rounds), Console(stderr=True)
    machine = describe_machine('cpu')
    with tempfile.TemporaryDirectory() as folder, progress.status('the data loader ...'):
        rate = loading_rate(load_config(str(CLASSIFIER)), make_images(Path(folder)))
    measured = []
    counts = (1, 2, 4)
    results = measuring.measure(plan, counts)
    for ranks in counts:
        with progress.status(f'{ranks} of {counts[-1]} processes ...'):
            measured.append(next(results))
    checks = [measuring.check(*measured, net.arch, os.cpu_count() or 1) for net in plan.nets]
    loading = report.loading_sheet(rate)
    sheets = [
        report.steps_sheet(plan, measured),
        report.link_sheet(measured),
        report.check_sheet(checks),
        loading,
    ]
    for sheet in sheets:
        show(sheet)
    if args.out:
        path = draw_measured(plan, measured, checks, headline(machine), args.out / 'measured.png')
        data = dict(
            machine=machine,
            plan=asdict(plan),
            measured=[asdict(m) for m in measured],
            checks=[asdict(c) for c in checks],
            loading_rate=rate,
        )
        write(args.out, 'measured', data, sheets, path, headline(machine))


def show(sheet: report.Sheet) -> None:
    table = Table(title=sheet.title, title_justify='left')
    for number, column in enumerate(sheet.columns):
        table.add_column(column, justify='left' if number == 0 else 'right')
    for row in sheet.rows:
        table.add_row(*row)
    terminal = Console(width=None if Console().is_terminal else 160)
    terminal.print(table)
    for line in sheet.below:
        terminal.print(f'  {line}', highlight=False, markup=False)


def write(
    folder: Path, name: str, data: dict, sheets: list[report.Sheet], picture: Path, headline: str | None = None
) -> None:
    (folder / f'{name}.json').write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')
    text = '\n'.join([*([headline + '\n'] if headline else []), *(sheet.markdown() for sheet in sheets)])
    (folder / f'{name}.md').write_text(text, encoding='utf-8')
    print(f'wrote {name}.json, {name}.md, {picture.name} to {folder}')


if __name__ == '__main__':
    run_tool(main)
