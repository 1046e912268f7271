"""The page of one run: what was collected, in words and pictures, by the template `report.html`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from ...checkpoints.writing import write_atomically
from ...engine.doctor.page import duration, size
from ...version import __version__
from .charts import confusion_chart
from .collecting import Run, Session, collect
from .per_class import ClassTable, class_table, confusions
from .reading import best, last_metrics, main_metric, metric_names, pace, shown, speed_charts, training_charts
from .records import SCORE, Evaluation, Picture

TASK_NAMES = {'cls': 'Classification', 'det': 'Detection', 'seg': 'Segmentation', None: 'Run'}
SECTIONS = {
    'metrics': 'Metrics',
    'curves': 'Curves',
    'speed': 'Speed',
    'classes': 'Classes',
    'samples': 'Predictions',
    'mistakes': 'Mistakes',
    'changes': 'Changes',
    'config': 'Config',
    'versions': 'Versions',
    'sessions': 'Sessions',
}
OF_TRAINING = ('curves', 'speed')
MOST_CLASSES = 100  # in the picture of a confusion matrix
WIDE = dict(cls=150, det=430, seg=430)  # least pixels of a picture


def write_report(folder: Path, out: Path) -> Run:
    """Make the page of the run in a folder, whole or not at all.

    Args:
        folder: a work directory.
        out: the page.

    Returns:
        The run.

    Raises:
        UserError: nothing there looks like a run, or the page cannot be written.
    """
    run = collect(folder)
    text = render('report.html', **contents(run))
    write_atomically(out, lambda partial: partial.write_text(text, encoding='utf-8'))
    return run


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package."""
    loader = PackageLoader('mmdwnet.analysis.run_report')
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    written = datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')
    return environment.get_template(template).render(version=__version__, written=written, **values)


def contents(run: Run) -> dict[str, Any]:
    """Everything that the template `report.html` shows."""
    training, kind = bool(run.sessions), TASK_NAMES[run.task]
    return dict(
        title=f'{run.name}: report',
        run=run,
        kind=f'{kind}, {"training" if training else "test"}',
        subtitle=str(run.folder),
        banner=banner(run),
        tiles=tiles(run),
        has_metric=main_metric(metric_names(run)) is not None,
        is_training=training,
        sections=[(key, name) for key, name in SECTIONS.items() if training or key not in OF_TRAINING],
        **_metric_table(run),
        curves=training_charts(run),
        breaks=len(run.sessions) > 1,
        speed_charts=speed_charts(run),
        speed_rows=_speed_rows(run),
        **_evaluated(run.evaluation),
        recipe=run.facts.get('config') or 'its config',
        changes=run.facts.get('differences'),
        config=run.last.config_text,
        command=run.facts.get('command'),
        versions=versions(run),
        machine=_machine(run),
        environment=run.last.environment,
        session_rows=[_session_row(session) for session in [*run.sessions, *run.tests]],
        checkpoints=[(path.name, size(path.stat().st_size)) for path in run.checkpoints],
        notes=[*run.notes, *_earlier(run)],
    )


def banner(run: Run) -> dict[str, Any]:
    """How the run ended: a title, what is known of it, and a tone."""
    session, lines = run.last, []
    what = 'training' if run.sessions else 'test'
    state = session.state
    reached = _reached(run)
    when = session.last_sign.strftime('%Y-%m-%d %H:%M:%S UTC')
    if state == 'finished':
        return dict(tone='good', title=f'The {what} is through.', lines=[f'{reached} {when}.'.strip()])
    if state == 'running':
        return dict(
            tone='open', title=f'The {what} goes on.', lines=[f'{reached} This page shows it as of {when}.']
        )
    if state == 'unknown':
        title = f"How the {what} ended is not known: it was not started by this project's tools."
        return dict(tone='open', title=title, lines=[reached] if reached else [])
    lines.append(f'{reached} {"Ended" if session.ended else "Last sign of it"}: {when}.'.strip())
    if state == 'died':
        title = f'The {what} did not end: its process was killed, or its machine lost.'
        log = session.folder / f'{session.folder.name}.log'
        lines.append(
            f'It could not say why; see the end of {log}, and whether the system ended it for its memory.'
        )
    else:
        title = f'The {what} did not end: ' + (
            'it gave way to a signal.' if state == 'preempted' else 'an error stopped it.'
        )
        lines.append((session.ended or {}).get('why', ''))
    if run.sessions:
        lines.append('The same command with --resume goes on from the last whole checkpoint.')
    tone = 'open' if state == 'preempted' else 'bad'
    return dict(tone=tone, title=title, lines=[line for line in lines if line])


def _reached(run: Run) -> str:
    """How far a training came, in a sentence."""
    if not run.sessions:
        return ''
    step, last = run.last.last_step, run.facts.get('last_step')
    text = f'iteration {step}' + (f' of {last}' if last else '')
    epochs = run.facts.get('epochs')
    if run.unit == 'epoch':
        text += f', epoch {run.x_of(step):.4g}' + (f' of {epochs}' if epochs else '')
    return f'It came to {text}.'


def tiles(run: Run) -> list[dict[str, str]]:
    """The numbers at the top."""
    found = []
    name = main_metric(metric_names(run))
    if name:
        top = best(run, name)
        if name in run.test_metrics:
            found.append((shown(name, run.test_metrics[name]), f'{name}, test'))
        if top:
            found.append((shown(name, top.value), f'{name}, best, {run.unit} {top.step}'))
            found.append((shown(name, last_metrics(run).get(name)), f'{name}, last validation'))
    speed = pace(run)
    if speed and speed.images:
        found.append((f'{speed.images:.3g}', 'images a second, training'))
    if run.sessions:
        seconds = sum((session.last_sign - session.started).total_seconds() for session in run.sessions)
        found.append(
            (
                duration(max(seconds, 0)),
                'of training' + (f', {len(run.sessions)} sessions' * (len(run.sessions) > 1)),
            )
        )
    if run.facts.get('parameters'):
        found.append((f'{run.facts["parameters"] / 1e6:.2f} M', 'parameters'))
    memory = memory_of(run)
    if memory:
        found.append((memory[1], memory[0]))
    return [dict(value=value, name=name) for value, name in found]


def memory_of(run: Run) -> tuple[str, str] | None:
    """Whose memory, and how much at most: of the GPU, or without one of the first process."""
    speed = pace(run)
    if speed and speed.memory:
        return 'GPU memory at most', size(speed.memory * 2**20)
    most = max((session.facts.get('peak_memory') or 0 for session in run.sessions or run.tests), default=0)
    return ('memory of the process at most', size(most)) if most else None


def _metric_table(run: Run) -> dict[str, Any]:
    names, last, test = metric_names(run), last_metrics(run), run.test_metrics
    columns = [
        *(['last validation', 'best validation', f'at {run.unit}'] if last else []),
        *(['test'] if test else []),
    ]
    rows = []
    for name in names:
        row, top = [name], best(run, name)
        if last:
            row += [
                shown(name, last.get(name)),
                shown(name, top.value if top else None),
                str(top.step) if top else '–',
            ]
        rows.append(row + ([shown(name, test.get(name))] if test else []))
    return dict(metrics=rows, metric_columns=columns)


def _speed_rows(run: Run) -> list[tuple[str, str]]:
    speed = pace(run)
    if speed is None:
        return []
    rows = [('a step', duration(speed.step))]
    share = speed.waiting / speed.step if speed.step else 0
    rows.append(('of it waiting for data', f'{duration(speed.waiting)}, {share:.0%}'))
    if speed.images:
        rows.append(
            (
                'images a second',
                f'{speed.images:.4g} on {run.facts["processes"]} process(es), {run.images_per_step} a step',
            )
        )
    memory = memory_of(run)
    if memory:
        rows.append(memory)
    own = sum(session.facts.get('seconds_of_report') or 0 for session in run.sessions)
    rows.append(('what this report cost the run', f'{duration(own)}, without making the page'))
    return rows


def _evaluated(evaluation: Evaluation | None) -> dict[str, Any]:
    """Results of each class, and the pictures."""
    if evaluation is None:
        nothing = 'No record: nothing was evaluated to its end, or not by tools/train.py or tools/test.py.'
        return dict(table=None, samples=[], worst=[], no_records=nothing)
    facts, table = evaluation.facts, class_table(evaluation)
    task = facts['task']
    confusion = None
    if table.confusion is not None and 1 < len(table.rows) <= MOST_CLASSES:
        what = 'pixels' if task == 'seg' else 'images'
        confusion = confusion_chart(table.confusion, [row.name for row in table.rows], what)
    unit = 'epoch' if facts.get('by_epoch') else 'step'
    place = f' after {unit} {facts[unit]}' if unit in facts else ''
    what = dict(val=f'the validation{place}', test='the test')[facts['phase']]
    notes = dict(
        cls='The most confident ones first.',
        det=f'The images with most objects that were missed or false, at a score of {SCORE} and an IoU of 0.5; truth on the left.',
        seg='The images with the lowest mean IoU over the classes in them; image, truth and prediction.',
    )
    sides = dict(cls='', det=' Truth on the left, prediction on the right.', seg=' Image, truth and prediction.')
    return dict(
        table=table,
        table_rows=_class_rows(table),
        table_title=f'Mean {table.columns[0]}: {_percent(table.mean)}',
        confusion=confusion,
        confused=[(t, f, f'{count:,}', f'{part:.1%}') for t, f, count, part in confusions(table)],
        unit_of_confusion=table.columns[-1],
        evaluated=f'From {what}, {facts["images"]:,} images.',
        samples=[_picture(each) for each in evaluation.samples],
        samples_note=f'Images from all over the set, from {what}.{sides[task]}',
        worst=[_picture(each) for each in evaluation.worst],
        worst_note=notes[task],
        wide=WIDE[task],
    )


def _class_rows(table: ClassTable) -> list[dict[str, Any]]:
    rows = []
    for row in table.rows:
        parts, counts = row.values[: -table.counts], row.values[-table.counts :]
        cells = [*map(_percent, parts), *(f'{int(count):,}' for count in counts)]
        bar = 0 if np.isnan(parts[0]) else round(100 * parts[0], 1)
        rows.append(dict(name=row.name, color='rgb({}, {}, {})'.format(*row.color), cells=cells, bar=bar))
    return rows


def _percent(part: float) -> str:
    return '–' if np.isnan(part) else f'{100 * part:.1f} %'


def _picture(picture: Picture) -> dict[str, Any]:
    url = 'data:image/jpeg;base64,' + base64.b64encode(picture.jpeg).decode()
    return dict(url=url, words=picture.words, name=picture.name, wrong=picture.badness > 0)


def versions(run: Run) -> list[tuple[str, str]]:
    """The commit and the versions of libraries."""
    machine = run.facts.get('machine') or {}
    if not machine:
        return [('not recorded', 'see what mmengine collected')]
    commit = machine.get('commit')
    if commit is None:
        said = 'not a git checkout'
    elif commit.endswith('-dirty'):
        said = f'{commit.removesuffix("-dirty")}, with changes that are not committed'
    else:
        said = commit
    return [('commit', said), *machine.get('versions', {}).items()]


def _machine(run: Run) -> list[tuple[str, str]]:
    machine, facts = run.facts.get('machine') or {}, run.facts
    rows = [('system', machine.get('system')), ('CPU', machine.get('cpu')), ('cores', machine.get('cores'))]
    rows.append(('threads', machine.get('threads')))
    rows += [(f'GPU {name}', value) for name, value in (machine.get('gpu') or {}).items()]
    rows += [('processes', facts.get('processes')), ('images of a process in a step', facts.get('batch_size'))]
    rows += [('steps accumulated', facts.get('accumulated')), ('images in the set', facts.get('images'))]
    rows.append(('weights from', facts.get('load_from')))
    return [(name, str(value)) for name, value in rows if value not in (None, '')]


def _session_row(session: Session) -> Sequence[str]:
    ended, first = session.ended or {}, session.facts.get('first_step', 0)
    seconds = max((session.last_sign - session.started).total_seconds(), 0)
    steps = f'{first} to {session.last_step}' if session.is_training else ''
    state = dict(died='killed or lost', running='goes on', unknown='not known').get(session.state, session.state)
    what = 'test' if session.is_test else 'training'
    why = f': {ended["why"]}' if ended.get('why') else ''
    return (
        session.folder.name,
        what,
        session.started.strftime('%Y-%m-%d %H:%M'),
        duration(seconds),
        steps,
        state + why,
    )


def _earlier(run: Run) -> list[str]:
    if not run.earlier:
        return []
    are = (
        f'are {run.earlier} sessions of earlier trainings'
        if run.earlier > 1
        else 'is one session of an earlier training'
    )
    return [f'In the same folder there {are}, which this page does not show.']
