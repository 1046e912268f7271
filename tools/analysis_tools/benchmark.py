"""Measure nets and ops side by side in one process: `python tools/analysis_tools/benchmark.py --suite quick`.

    --suite must-show     every ratio that issue 4 demands of a CPU, with its bound
    --suite gpu           the same for a GPU, in one call
    --tasks inference training latency inference-memory training-memory ops
    --scaling batch       time per image over growing batches; `--scaling size`: time per pixel over growing images

Prints tables with the noise of the measurement and ratios against a baseline; `--out FOLDER` adds them as JSON, as
Markdown and as pictures. Exit status 1: something failed that is not optional, or a demanded ratio was not met.
"""

import argparse
import json
import logging
import math
import tempfile
import warnings
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmdwnet.analysis.benchmark import report, suites
from mmdwnet.analysis.benchmark.bandwidth import measure_bandwidth
from mmdwnet.analysis.benchmark.cases import (
    COMPILE_MODES,
    CUDA_GRAPH,
    DEVICES,
    LAYOUTS,
    PRECISIONS,
    Case,
    check_device,
)
from mmdwnet.analysis.benchmark.demands import judge
from mmdwnet.analysis.benchmark.machine import describe_machine, headline
from mmdwnet.analysis.benchmark.nets import NETS, find_nets
from mmdwnet.analysis.benchmark.op_cases import OP_TASKS
from mmdwnet.analysis.benchmark.running import (
    LATENCY,
    MEMORY,
    OPS,
    SPEED,
    AnyCase,
    Group,
    Result,
    run_group,
    steps_of,
)
from mmdwnet.analysis.benchmark.timing import Plan, Stopwatch
from mmdwnet.backbones.archs import PYRAMID_ARCHS
from mmdwnet.errors import UserError, run_tool

TASKS = ('inference', 'training', 'latency', 'inference-memory', 'training-memory', 'ops')
BASELINE = 'as-published-dwnet-tiny'
# what a suite decides by itself; None on the command line means not given
CHOICES = dict(
    nets=['*-tiny', '*-tiny-deployed'],
    tasks=['inference'],
    precisions=['float32', 'bfloat16-autocast'],
    layouts=['contiguous'],
    compile=['none'],
    batch_size=8,
    size=224,
    ops_of='tiny',
    optimizer_step=False,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--suite', choices=suites.SUITES, help='a named set of measurements')
    add('--list', action='store_true', help='list the nets and end')
    add('--nets', nargs='+', metavar='NAME', help="names or patterns such as '*-base'; default all of tiny")
    add('--tasks', nargs='+', choices=TASKS, help='default inference')
    add('--scaling', choices=('batch', 'size'), help='inference at growing batch or image size')
    add('--precisions', nargs='+', choices=PRECISIONS, help='default float32 bfloat16-autocast')
    add('--layouts', nargs='+', choices=LAYOUTS, help='of the input; default contiguous, of ops channels_last')
    add(
        '--compile', nargs='+', choices=COMPILE_MODES, help='modes of torch.compile, or a CUDA graph; default none'
    )
    add('--batch-size', type=int, metavar='N', help='default 8')
    add('--size', type=int, metavar='PIXELS', help='side of the images; default 224')
    add('--ops-of', choices=PYRAMID_ARCHS, help='the arch whose stages give ops their shapes; default tiny')
    add('--optimizer-step', action='store_true', default=None, help='end a training step with a step of AdamW')
    add('--baseline', metavar='NAME', help=f'net of the ratios; default {BASELINE}, or else the first net')
    add('--device', choices=DEVICES, help='default cuda where there is a GPU')
    add('--rounds', type=int, default=7, metavar='N', help='samples of each thing, taken in turn; default 7')
    add(
        '--burst',
        type=float,
        default=0.25,
        metavar='SECONDS',
        help='the least that a sample lasts; default 0.25',
    )
    add('--threads', type=int, metavar='N', help="CPU threads; default torch's own choice")
    add('--out', type=Path, metavar='FOLDER', help='for benchmark.json, benchmark.md and the pictures')
    args = parser.parse_args()
    suited = (*CHOICES, 'scaling', 'baseline')
    given = [f'--{name.replace("_", "-")}' for name in suited if getattr(args, name) is not None]
    if args.suite and given:
        parser.error(f'--suite {args.suite} says what to measure: give it without {given[0]}')
    for name, value in CHOICES.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.given = given
    for name in ('batch_size', 'size', 'rounds', 'threads'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be 1 or more, got {getattr(args, name)}')
    if not 0 <= args.burst < math.inf:
        parser.error(f'--burst must be 0 seconds or more, got {args.burst}')
    return args


def main() -> None:
    args = parse_args()
    if args.list:
        print('\n'.join(f'{net.name:<42}{net.label:<42}{net.missing or ""}'.rstrip() for net in NETS.values()))
        return
    logging.disable(logging.WARNING)  # the libraries warn about their own nets while they build them
    warnings.simplefilter('ignore')
    if args.out:
        check_folder(args.out)
    suite = suites.make_suite(args.suite, args.device) if args.suite else chosen(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    raise SystemExit(run(suite, args))


def check_folder(folder: Path) -> None:
    """Make the folder of the results, before the minutes that measuring takes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'--out {folder}: no folder to write to ({error.strerror}); name another') from error


def chosen(args: argparse.Namespace) -> suites.Suite:
    """Return what the command line asks for as a suite without demands."""
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    for precision, mode in product(args.precisions, args.compile):
        check_device(device, precision, mode)
    if CUDA_GRAPH in args.compile and any(task.endswith('-memory') for task in args.tasks):
        raise UserError(f'--compile {CUDA_GRAPH}: a graph has its memory for itself; ask for memory without it')
    nets = find_nets(args.nets)
    if args.baseline and args.baseline not in NETS:
        raise UserError(f'--baseline {args.baseline}: no net of that name, see --list')
    if args.baseline is None:
        args.baseline = BASELINE if BASELINE in nets else nets[0]
    elif args.baseline not in nets:
        nets.append(args.baseline)
    if args.scaling:
        nets = nets if '--nets' in args.given else suites.DEPLOYED
        return suites.Suite(
            'scaling', device, (suites.scaling_group(args.scaling, nets, args.precisions, device),)
        )
    groups: list[Group] = []
    for task in dict.fromkeys(args.tasks):
        groups += op_groups(args, device) if task == 'ops' else [net_group(args, task, nets, device)]
    return suites.Suite('chosen', device, tuple(groups))


def net_group(args: argparse.Namespace, task: str, nets: list[str], device: str) -> Group:
    kind = LATENCY if task == 'latency' else MEMORY if task.endswith('-memory') else SPEED
    task_of_case = 'training' if task.startswith('training') else 'inference'
    batch = 1 if task == 'latency' else args.batch_size
    optimizer = args.optimizer_step and task_of_case == 'training'
    cases = tuple(
        Case(net, task_of_case, precision, layout, mode, batch, args.size, device, optimizer)
        for precision, net, layout, mode in product(args.precisions, nets, args.layouts, args.compile)
    )
    return Group(f'memory of {task_of_case}' if kind == MEMORY else task, kind, cases, args.baseline)


def op_groups(args: argparse.Namespace, device: str) -> list[Group]:
    precisions = suites.op_precisions(args.precisions)
    layouts = args.layouts if '--layouts' in args.given else ['channels_last']
    modes = [mode for mode in args.compile if mode != CUDA_GRAPH] or ['none']  # on a GPU ops are graphs anyhow
    at = (args.ops_of, args.batch_size, device, layouts, modes)
    return [Group(f'ops {task}', OPS, suites.ops_at(precisions, task, *at)) for task in OP_TASKS]


def run(suite: suites.Suite, args: argparse.Namespace) -> int:
    """Measure, print and write; return the exit status."""
    terminal = Console(width=None if Console().is_terminal else 180)
    stopwatch = Stopwatch(torch.cuda.synchronize if suite.device == 'cuda' else lambda: None)
    plan, machine = Plan(args.rounds, args.burst), describe_machine(suite.device)
    terminal.print(headline(machine), highlight=False)
    bandwidth = None
    if any(group.kind == OPS for group in suite.groups):
        bandwidth = measure_bandwidth(suite.device, plan, stopwatch)
        peak = f', {bandwidth.peak / 1e9:.0f} by its specification' if bandwidth.peak else ''
        terminal.print(f'memory bandwidth of a copy: {bandwidth.copied / 1e9:.1f} GB/s{peak}', highlight=False)
    measured, sheets = [], []
    for number, group in enumerate(suite.groups, 1):
        results = measure_group(group, f'{number}/{len(suite.groups)} {group.name}', plan, stopwatch)
        measured.append((group, results))
        sheets.append(report.sheet_of(group, results, bandwidth))
        show(terminal, sheets[-1])
    by_name = {group.name: results for group, results in measured}
    verdicts = [judge(demand, by_name[demand.group], bandwidth) for demand in suite.demands]
    if verdicts:
        sheets.append(report.verdict_sheet(verdicts))
        show(terminal, sheets[-1])
    if args.out:
        data = report.as_json(machine, plan, measured, verdicts, bandwidth)
        write(args.out, data, report.as_markdown(machine, sheets), measured)
    failed = any(result.failed for _, results in measured for result in results)
    return int(failed or not all(verdict.met for verdict in verdicts))


def measure_group(group: Group, title: str, plan: Plan, stopwatch: Stopwatch) -> list[Result]:
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=steps_of(group, plan))

        def advance(case: AnyCase) -> None:
            progress.update(bar, advance=1, description=f'{title}: {case.label}')

        return run_group(group, plan, stopwatch, torch.get_num_threads(), advance)


def show(terminal: Console, sheet: report.Sheet) -> None:
    terminal.print(sheet.rich())
    for line in sheet.below:
        terminal.print(f'  {line}', highlight=False, markup=False)


def write(folder: Path, data: dict, text: str, measured: report.Measured) -> None:
    from mmdwnet.analysis.benchmark.charts import draw  # matplotlib is slow to import

    (folder / 'benchmark.json').write_text(json.dumps(data, indent=1), encoding='utf-8')
    (folder / 'benchmark.md').write_text(text, encoding='utf-8')
    pictures = [draw(group, results, folder, headline(data['machine'])) for group, results in measured]
    names = ', '.join(['benchmark.json', 'benchmark.md', *(path.name for path in pictures if path)])
    print(f'wrote {names} to {folder}')


if __name__ == '__main__':
    run_tool(main)
