"""Several runs side by side on one page: curves over one another, metrics, settings that differ, pace, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...checkpoints.writing import write_atomically
from ...engine.doctor.page import duration, size
from ...errors import UserError
from .charts import COLORS, Chart, line_chart
from .collecting import Run, collect
from .facts import differences
from .page import TASK_NAMES, render, versions
from .reading import best, last_metrics, main_metric, metric_curve, metric_names, pace, shown, step_curve
from .summary import memory_of, seconds_of

MOST = len(COLORS)  # of runs, and so of colours
MOST_CHARTS = 4  # of metrics
NO_SETTINGS = ('custom_hooks', 'visualizer', 'vis_backends')


def write_comparison(folders: Sequence[Path], out: Path) -> list[Run]:
    """Make the page that compares the runs of some folders, whole or not at all.

    Args:
        folders: work directories, two at least.
        out: the page.

    Returns:
        The runs.

    Raises:
        UserError: a folder holds no run, they are too few or too many, or the page cannot be written.
    """
    if not 2 <= len(folders) <= MOST:
        raise UserError(f'{len(folders)} runs: expected 2 to {MOST} work directories')
    runs = [collect(folder) for folder in folders]
    text = render('compare.html', **contents(runs))
    write_atomically(out, lambda partial: partial.write_text(text, encoding='utf-8'))
    return runs


def contents(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that the template `compare.html` shows."""
    names = _names(runs)
    kinds = list(dict.fromkeys(TASK_NAMES[run.task] for run in runs))
    return dict(
        title='Runs compared',
        names=list(zip(names, COLORS, strict=False)),
        kinds=kinds,
        notices=_notices(runs, names, kinds),
        charts=_charts(runs, names),
        metrics=_metrics(runs),
        numbers=_numbers(runs),
        settings=_settings(runs),
        versions=_differing([dict(versions(run)) for run in runs]),
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: that of its config, and where two have the same, of its folder, or its number."""
    names = [run.name for run in runs]
    for others in ([run.folder.absolute().name for run in runs], [f'run {i + 1}' for i in range(len(runs))]):
        if len(set(names)) < len(names):
            names = [name if names.count(name) == 1 else other for name, other in zip(names, others, strict=True)]
    return names


def _notices(runs: Sequence[Run], names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """What cannot be compared, and why."""
    notices = []
    if len(kinds) > 1:
        notices.append(
            f'These are runs of different tasks ({", ".join(kinds)}). Their losses and metrics measure different '
            'things: only pace, sizes and settings can be compared.'
        )
    elif len({run.unit for run in runs if run.sessions}) > 1:
        notices.append('Some of the runs count epochs and others iterations: their curves stand over iterations.')
    sets = {run.facts.get('images') for run in runs if run.sessions}
    if len(sets - {None}) > 1:
        notices.append('The runs were trained on sets of different size.')
    for run, name in zip(runs, names, strict=True):
        if run.last.state not in ('finished', 'unknown'):
            notices.append(f'{name} did not end ({run.last.state}): its last values are not its final ones.')
        if not run.evaluations and not run.test_metrics:
            notices.append(f'{name} was not evaluated.')
        notices += [f'{name}: {note}' for note in run.notes]
    return notices


def _charts(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    if len({run.task for run in runs}) > 1:
        return []
    units = {run.unit for run in runs if run.sessions}
    shared = len(units) == 1
    unit = units.pop() if shared else 'iteration'

    def placed(curve: Any, run: Run) -> Any:
        """The curve over iterations, where the runs count in different units."""
        factor = 1 if shared or run.unit == 'iteration' else run.steps_per_epoch
        return type(curve)(curve.label, [factor * x for x in curve.x], curve.y, curve.marked)

    pairs = list(zip(runs, names, strict=True))
    found = [line_chart('Loss', [placed(step_curve(run, 'loss', name), run) for run, name in pairs], unit, True)]
    for metric in _shared_metrics(runs)[:MOST_CHARTS]:
        curves = [placed(metric_curve(run, metric, name), run) for run, name in pairs]
        found.append(line_chart(metric, curves, unit))
    found.append(
        line_chart('Learning rate', [placed(step_curve(run, 'lr', name), run) for run, name in pairs], unit)
    )
    return [chart for chart in found if chart is not None]


def _shared_metrics(runs: Sequence[Run]) -> list[str]:
    """Metrics that two runs at least have, the main one first."""
    all_names = [name for run in runs for name in metric_names(run)]
    shared = [name for name in dict.fromkeys(all_names) if all_names.count(name) > 1]
    main = main_metric(shared)
    return sorted(shared, key=lambda name: name != main)


def _metrics(runs: Sequence[Run]) -> list[list[str]]:
    """Rows: metric, and for each run 'best / last / test', as far as it has them."""
    rows = []
    for name in dict.fromkeys(name for run in runs for name in metric_names(run)):
        tops = [best(run, name) for run in runs]
        rows.append([f'{name}, best', *(shown(name, top.value if top else None) for top in tops)])
        rows.append([f'{name}, last', *(shown(name, last_metrics(run).get(name)) for run in runs)])
        rows.append([f'{name}, test', *(shown(name, run.test_metrics.get(name)) for run in runs)])
    return [row for row in rows if set(row[1:]) != {'–'}]


def _numbers(runs: Sequence[Run]) -> list[list[str]]:
    """Rows: pace and sizes of each run."""
    found: dict[str, list[str]] = {}
    for i, run in enumerate(runs):
        speed, memory = pace(run), memory_of(run)
        values = dict(state=run.last.state, task=TASK_NAMES[run.task])
        if run.sessions:
            values['training and validation'] = duration(seconds_of(run))
            values['iterations'] = str(run.last.last_step)
        if speed:
            values['a step'] = duration(speed.step)
            values['of it, waiting for data'] = duration(speed.waiting)
            values['images a second'] = f'{speed.images:.4g}' if speed.images else '–'
        if run.facts.get('parameters'):
            values['parameters'] = f'{run.facts["parameters"] / 1e6:.2f} M'
        if memory:
            values[memory[0]] = memory[1]
        if run.checkpoints:
            values['checkpoint'] = size(run.checkpoints[-1].stat().st_size)
        values['images of a step'] = str(run.images_per_step or '–')
        values['machine'] = (run.facts.get('machine') or {}).get('cpu') or '–'
        for name, value in values.items():
            found.setdefault(name, ['–'] * len(runs))[i] = value
    return [[name, *values] for name, values in found.items() if set(values) != {'–'}]


def _settings(runs: Sequence[Run]) -> list[list[str]] | None:
    """Rows: a setting, and its value in each run, of those that differ; None if a run has left no config."""
    configs = []
    for run in runs:
        try:
            configs.append(Config.fromstring(run.last.config_text, '.py').to_dict())
        except Exception:  # a config is a program: whatever can go wrong in one
            return None
        if not configs[-1]:
            return None
    keys: dict[str, None] = {}
    for config in configs[1:]:
        keys.update(dict.fromkeys(key for key, *_ in differences(configs[0], config)))
    rows = []
    for key in keys:
        if key.split('.')[0] in NO_SETTINGS:
            continue
        rows.append([key, *(_value(config, key) for config in configs)])
    return rows


def _value(node: Any, key: str) -> str:
    """The value of a dotted key, as Python writes it."""
    for part in key.split('.'):
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return '–'
    return repr(node)


def _differing(sides: Sequence[dict[str, str]]) -> list[list[str]]:
    """Rows of the keys whose values are not the same on all sides."""
    keys = dict.fromkeys(key for side in sides for key in side)
    rows = [[key, *(str(side.get(key, '–')) for side in sides)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]
