"""`tools/analysis_tools/reproduce_tables.py` as it is typed."""

import json

TOOL = 'tools/analysis_tools/reproduce_tables.py'


def test_prints_and_writes_a_table(run_python, tmp_path):
    metrics = tmp_path / 'metrics.json'
    metrics.write_text(json.dumps({'mIoU': 12.34}))
    name = 'upernet_dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512'
    out = tmp_path / 'out'
    done = run_python(TOOL, '--task', 'pretrain22k', '--results', f'{name}={metrics}', '--out', out)
    assert done.returncode == 0, done.stderr
    assert (out / 'tables.md').read_text(encoding='utf-8') in done.stdout
    row = next(line for line in done.stdout.split('### ADE20K')[1].splitlines() if line.startswith('| DWNet-B'))
    assert '12.34' in row
    tables = json.loads((out / 'tables.json').read_text(encoding='utf-8'))
    (found,) = [row for table in tables for row in table['rows'] if row['name'] == name]
    assert found['measured']['miou'] == 12.34
    assert found['published']['miou'] == {'talk': '50.1'}
    assert {path.suffix for path in out.iterdir()} == {'.md', '.json', '.png'}


def test_mistakes_end_in_one_line(run_python, tmp_path):
    done = run_python(TOOL, '--task', 'coco', '--results', 'nothing=x.json')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith("error: --results: no row is called 'nothing'")
    assert done.stderr.count('\n') == 1
    file = tmp_path / 'file'
    file.touch()
    done = run_python(TOOL, '--out', file)
    assert done.returncode == 2
    assert done.stderr == f'error: --out {file} is a file: expected a folder\n'
    assert run_python(TOOL, '--update', '--task', 'coco').returncode == 2
