"""The page of one run: what was collected, in words and pictures, by the template `report.html`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...checkpoints.writing import write_atomically
from ...engine.doctor.page import duration, size
from ...version import __version__
from .charts import confusion_chart, printable
from .collecting import Run, Session, collect
from .per_class import ClassTable, class_table, confusions
from .reading import main_metric, metric_names, speed_charts, training_charts
from .records import OVERLAP, SCORE, Evaluation, Picture
from .summary import banner, metric_table, speed_rows, tiles

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
WRONG = dict(cls=0, det=0, seg=0.5)  # badness from which on a picture's words are red
SIDES = dict(cls='', det='Truth on the left, prediction on the right.', seg='Image, truth and prediction.')
WORST_NOTES = dict(
    cls='Wrong, and the most confident ones first.',
    det=f'Most objects missed or false, at a score of {SCORE} and an IoU of {OVERLAP}.',
    seg='The lowest mean IoU over the classes of the image.',
)


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
    """Fill in a template of this package; a value that it lacks is an error, not a gap in the page."""
    environment = Environment(
        loader=PackageLoader('mmdwnet.analysis.run_report'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    written = datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')
    return printable(environment.get_template(template).render(version=__version__, written=written, **values))


def contents(run: Run) -> dict[str, Any]:
    """Everything that the template `report.html` shows."""
    training, kind = bool(run.sessions), TASK_NAMES[run.task]
    columns, rows = metric_table(run)
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
        metric_columns=columns,
        metrics=rows,
        curves=training_charts(run),
        breaks=len(run.sessions) > 1,
        speed_charts=speed_charts(run),
        speed_rows=speed_rows(run),
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


def _evaluated(evaluation: Evaluation | None) -> dict[str, Any]:
    """Results of each class, and the pictures."""
    if evaluation is None:
        nothing = (
            'No record: nothing was evaluated to its end, or not by tools/train.py or tools/test.py, or a resume '
            'from an earlier checkpoint has undone it.'
        )
        return dict(table=None, samples=[], worst=[], no_records=nothing)
    facts, table = evaluation.facts, class_table(evaluation)
    task = facts['task']
    confusion = None
    if table.confusion is not None and 1 < len(table.rows) <= MOST_CLASSES:
        what = 'pixels' if task == 'seg' else 'images'
        confusion = confusion_chart(table.confusion, [row.name for row in table.rows], what)
    place = f' after epoch {facts["epoch"]}' if facts.get('by_epoch') else f' after iteration {facts.get("step")}'
    what = 'the test' if facts['phase'] == 'test' else f'the validation{place}'
    return dict(
        table=table,
        table_rows=_class_rows(table),
        table_title=f'Mean {table.columns[0]}: {_percent(table.mean)}',
        confusion=confusion,
        confused=[(t, f, f'{count:,}', f'{part:.1%}') for t, f, count, part in confusions(table)],
        unit_of_confusion=table.columns[-1],
        evaluated=f'From {what}, {facts["images"]:,} images.',
        no_records='No picture was kept: the images could not be read.',
        samples=[_picture(each, task) for each in evaluation.samples],
        samples_note=f'Images from all over the set, from {what}. {SIDES[task]}',
        worst=[_picture(each, task) for each in evaluation.worst],
        worst_note=f'{WORST_NOTES[task]} {SIDES[task]}',
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


def _picture(picture: Picture, task: str) -> dict[str, Any]:
    url = 'data:image/jpeg;base64,' + base64.b64encode(picture.jpeg).decode()
    return dict(url=url, words=picture.words, name=picture.name, wrong=picture.badness > WRONG[task])


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
    ended = session.ended or {}
    seconds = max((session.last_sign - session.started).total_seconds(), 0)
    steps = f'{session.first_step} to {session.last_step}' if session.is_training else ''
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
    return [f'Sessions of earlier trainings in the same folder, which this page does not show: {run.earlier}.']
