"""The top of the page: how the run ended, its numbers at a glance, its metrics and its pace in tables."""

from __future__ import annotations

from typing import Any

from ...engine.doctor.page import duration, size
from .collecting import Run
from .reading import best, last_metrics, main_metric, metric_names, pace, shown

# of the states of a session, what the page says: tone, and the title behind 'The training'
ENDS = {
    'finished': ('good', 'is through.'),
    'running': ('open', 'goes on.'),
    'preempted': ('open', 'did not end: it gave way to a signal.'),
    'failed': ('bad', 'did not end: an error stopped it.'),
    'died': ('bad', 'did not end: its process was killed, or its machine lost.'),
    'unknown': ('open', "may have ended or not: it was not started by this project's tools."),
}


def banner(run: Run) -> dict[str, Any]:
    """How the run ended: a title, what is known of it, and a tone."""
    session, what = run.last, 'training' if run.sessions else 'test'
    state = session.state
    tone, title = ENDS[state]
    verb = 'Ended' if session.ended else 'Last sign of it'
    lines = [f'{reached(run)} {verb}: {session.last_sign:%Y-%m-%d %H:%M:%S} UTC.'.strip()]
    if state == 'died':
        lines.append(
            f'It could not say why: see the end of {session.folder.name}/{session.folder.name}.log, and whether '
            'the system ended it for its memory.'
        )
    elif state in ('failed', 'preempted'):
        lines.append(session.ended['why'])
    if run.sessions and state in ('died', 'failed', 'preempted'):
        lines.append('The same command with --resume goes on from the last whole checkpoint.')
    return dict(tone=tone, title=f'The {what} {title}', lines=lines)


def reached(run: Run) -> str:
    """How far a training came, in a sentence; nothing of a test."""
    if not run.sessions:
        return ''
    step, last, epochs = run.last.last_step, run.facts.get('last_step'), run.facts.get('epochs')
    text = f'iteration {step}' + (f' of {last}' if last else '')
    if run.unit == 'epoch':
        text += f', epoch {run.x_of(step):.3g}' + (f' of {epochs}' if epochs else '')
    return f'It came to {text}.'


def tiles(run: Run) -> list[dict[str, str]]:
    """The numbers at the top, the metric that counts first."""
    found = []
    name = main_metric(metric_names(run))
    if name in run.test_metrics:
        found.append((shown(name, run.test_metrics[name]), f'{name}, test'))
    top = best(run, name) if name else None
    if top:
        found.append((shown(name, top.value), f'{name}, best validation ({run.unit} {top.step})'))
        found.append((shown(name, last_metrics(run).get(name)), f'{name}, last validation'))
    speed = pace(run)
    if speed and speed.images:
        found.append((f'{speed.images:.3g}', 'images a second in training'))
    if run.sessions:
        sessions = f' in {len(run.sessions)} sessions' if len(run.sessions) > 1 else ''
        time = duration(seconds_of(run)).replace('minutes', 'min')  # a tile is narrow
        found.append((time, f'of training and validation{sessions}'))
    if run.facts.get('parameters'):
        found.append((f'{run.facts["parameters"] / 1e6:.2f} M', 'parameters'))
    memory = memory_of(run)
    if memory:
        found.append((memory[1], memory[0]))
    return [dict(value=value, name=text) for value, text in found]


def seconds_of(run: Run) -> float:
    """How long the sessions of a training took."""
    return sum(max((s.last_sign - s.started).total_seconds(), 0) for s in run.sessions)


def memory_of(run: Run) -> tuple[str, str] | None:
    """Whose memory, and how much at most: of the GPU, or without one of the first process."""
    speed = pace(run)
    if speed and speed.memory:
        return 'memory of a GPU, at most', size(speed.memory * 2**20)
    most = max((session.facts.get('peak_memory') or 0 for session in run.sessions or run.tests), default=0)
    return ('memory of the first process, at most', size(most)) if most else None


def metric_table(run: Run) -> tuple[list[str], list[list[str]]]:
    """The columns, and a row for every metric: its name, in the last and the best validation, and in the test."""
    last, test = last_metrics(run), run.test_metrics
    columns = ['last validation', 'best validation', f'at {run.unit}'] if last else []
    rows = []
    for name in metric_names(run):
        row, top = [name], best(run, name)
        if last:
            value = shown(name, top.value if top else None)
            row += [shown(name, last.get(name)), value, '–' if value == '–' else str(top.step)]
        rows.append(row + ([shown(name, test.get(name))] if test else []))
    return columns + (['test'] if test else []), rows


def speed_rows(run: Run) -> list[tuple[str, str]]:
    """The pace in words."""
    speed = pace(run)
    if speed is None:
        return []
    share = speed.waiting / speed.step if speed.step else 0
    rows = [
        ('a step', duration(speed.step)),
        ('of it, waiting for data', f'{duration(speed.waiting)}, {share:.0%}'),
    ]
    if speed.images:
        processes = run.facts['processes']
        where = f'{run.images_per_step} a step, on {processes} process{"es" * (processes > 1)}'
        rows.append(('images a second', f'{speed.images:.4g}; {where}'))
    memory = memory_of(run)
    if memory:
        rows.append(memory)
    cost = sum(session.facts.get('seconds_of_report') or 0 for session in run.sessions)
    total = seconds_of(run)
    share = f', {cost / total:.2%} of the time' if total else ''
    rows.append(('keeping records for this page', duration(cost) + share))
    return rows
