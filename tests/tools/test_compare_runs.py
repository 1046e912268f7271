"""tools/analysis_tools/compare_runs.py: runs side by side, and what cannot be compared said in words."""

import html
import re

import pytest
from written_runs import ended, write_session

from mmdwnet.analysis.run_report.comparing import write_comparison
from mmdwnet.errors import UserError

TOOL = 'tools/analysis_tools/compare_runs.py'
DEEPER = "default_scope = 'mmpretrain'\nlr = 0.1\nmodel = dict(depth=3)\n"
SEGMENTOR = dict(task='seg', config='configs/segment.py', ended=ended())


@pytest.fixture
def runs(tmp_path):
    write_session(tmp_path / 'a', evaluations=[(1, 70.0), (2, 60.0)], facts=dict(ended=ended()))
    facts = dict(ended=ended(), parameters=3_000_000, batch_size=8)
    write_session(tmp_path / 'b', evaluations=[(1, 80.0), (2, 81.0)], facts=facts, config=DEEPER)
    return tmp_path


def compared(runs, *names):
    page = runs / 'page.html'
    write_comparison([runs / name for name in names], page)
    return html.unescape(page.read_text())


def rows_of(page):
    """The cells of each row of the page's tables."""
    cells = [re.findall(r'<td[^>]*>(.*?)</td>', row, re.S) for row in re.findall(r'<tr>(.*?)</tr>', page, re.S)]
    return {
        re.sub('<[^>]+>', '', row[0]): [re.sub('<[^>]+>', '', cell) for cell in row[1:]] for row in cells if row
    }


def test_metrics_pace_sizes_and_settings_stand_side_by_side(runs, run_python):
    done = run_python(TOOL, runs / 'a', runs / 'b', '--out', runs / 'page.html')
    assert done.returncode == 0, done.stderr
    rows = rows_of(html.unescape((runs / 'page.html').read_text()))
    assert rows['accuracy/top1, best'] == ['70.00', '81.00'] and rows['accuracy/top1, last'] == ['60.00', '81.00']
    assert rows['images a second'] == ['16', '32'] and rows['parameters'] == ['1.50 M', '3.00 M']
    assert rows['model.depth'] == ['2', '3'] and 'lr' not in rows


def test_runs_of_one_config_are_told_apart_by_their_folders(runs):
    page = compared(runs, 'a', 'b')
    assert re.search(r'</i>a</th>.*</i>b</th>', page)
    assert 'alt="Loss: a from 10 to 0.5, b from 10 to 0.5"' in page


def test_of_different_tasks_only_pace_and_settings_are_compared(runs):
    write_session(runs / 's', evaluations=[], facts=SEGMENTOR)
    page = compared(runs, 'a', 's')
    assert 'runs of different tasks (Classification, Segmentation)' in page
    assert 'alt="Loss' not in page and rows_of(page)['a step'] == ['500 ms', '500 ms']


def test_a_run_that_did_not_end_and_a_half_written_line_are_noticed(runs):
    session = write_session(runs / 'died', evaluations=[(1, 50.0)], facts=dict(config='configs/dead.py'))
    with (session / 'vis_data' / 'scalars.json').open('a') as file:
        file.write('{"lr": 0.1, "lo')
    page = compared(runs, 'a', 'died')
    assert 'dead did not end (died): its last values are not its final ones.' in page
    assert 'dead: Lines of the scalars that could not be read and are left out: 1.' in page


def test_a_run_by_iterations_beside_one_by_epochs(runs):
    write_session(runs / 'i', facts=dict(by_epoch=False, ended=ended()))
    page = compared(runs, 'a', 'i')
    assert 'their curves stand over iterations' in page


@pytest.mark.parametrize(
    ('names', 'says'),
    [
        (['a'], 'expected 2 to 7 work directories'),
        (['a', 'nothing'], 'nothing not found'),
        (['a', '.'], 'is no work directory of a run'),
    ],
)
def test_what_cannot_be_compared_is_named(names, says, runs):
    with pytest.raises(UserError, match=says):
        compared(runs, *names)
    assert not (runs / 'page.html').exists()


def test_a_folder_that_is_no_run_ends_the_tool_with_one_line(runs, run_python):
    done = run_python(TOOL, runs / 'a', runs, '--out', runs / 'page.html')
    assert done.returncode == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert not (runs / 'page.html').exists()


def test_a_file_in_place_of_the_folder_of_the_page_is_one_line(runs, run_python):
    (runs / 'epoch_1.pth').write_text('weights')
    done = run_python(TOOL, runs / 'a', runs / 'b', '--out', runs / 'epoch_1.pth' / 'page.html')
    assert done.returncode == 2 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert 'there is no folder' in done.stderr and (runs / 'epoch_1.pth').read_text() == 'weights'
