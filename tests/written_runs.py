"""Work directories as a run leaves them, written in a moment: mmengine's files and those of `RunReportHook`."""

import json
from pathlib import Path

import numpy as np

from mmdwnet.analysis.run_report.facts import EVALUATION, FOLDER, write_facts
from mmdwnet.analysis.run_report.pictures import classified, palette_of
from mmdwnet.analysis.run_report.records import IMAGE, Evaluation, Picture

CLASSES = ['cat', 'dog', 'owl']
CONFIG = "default_scope = 'mmpretrain'\nlr = 0.1\nmodel = dict(depth=2)\n"


def write_session(folder, stamp='20260101_120000', steps=range(1, 21), evaluations=(), facts=None, config=CONFIG):
    """A session of a training of 10 steps an epoch; `evaluations` are epochs and their top-1."""
    session = Path(folder, stamp)
    (session / 'vis_data').mkdir(parents=True)
    lines = [dict(lr=0.1, loss=10 / step, time=0.5, data_time=0.1, iter=step, step=step) for step in steps]
    lines += [{'accuracy/top1': value, 'time': 0.1, 'step': epoch} for epoch, value in evaluations]
    (session / 'vis_data' / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (session / 'vis_data' / 'config.py').write_text(config)
    if facts is not None:
        (session / FOLDER).mkdir()
        known = dict(
            phase='train', task='cls', config='configs/nano.py', differences=[],
            started='2026-01-01T12:00:00+00:00',
            processes=2, batch_size=4, steps_per_epoch=10, by_epoch=True, first_step=0, last_step=40, epochs=4,
            parameters=1_500_000, resumed=False, images=80, machine=dict(cpu='a CPU', commit='abc', versions={}),
        )  # fmt: skip
        write_facts(session / FOLDER, {**known, **facts})
    return session


def ended(how='finished', step=40, why='', when='2026-01-01T13:00:00+00:00'):
    """What the facts say of an end."""
    return dict(how=how, why=why, when=when, step=step)


def write_evaluation(session, truth, found):
    """The record of an evaluation of a classifier, with a picture of each image."""
    rows = np.array([(i, t, f, 0.9) for i, (t, f) in enumerate(zip(truth, found, strict=True))], IMAGE)
    jpeg = classified(np.zeros((8, 8, 3), np.uint8))
    pictures = [Picture(i, float(t != f), f'{i}.png', f'picture {i}', jpeg) for i, t, f, _ in rows.tolist()]
    facts = dict(task='cls', phase='val', classes=CLASSES, palette=palette_of(3), images=len(rows))
    facts.update(step=40, epoch=4, by_epoch=True, metrics={})
    evaluation = Evaluation(facts, dict(images=rows), pictures, [p for p in pictures if p.badness])
    evaluation.save(session / FOLDER / EVALUATION)
