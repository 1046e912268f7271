"""`tools/analysis_tools/probe_mixer.py` as it is typed."""

import json

import pytest

TOOL = 'tools/analysis_tools/probe_mixer.py'


def test_prints_and_writes_where_mixers_stand(run_python, tmp_path):
    out = tmp_path / 'out'
    mixers = [
        'SeparableConvolution:kernel_size=3',
        'WindowAttention:head_channels=4,shift=True',
        'torch.nn.Identity',
    ]
    done = run_python(TOOL, *mixers, '--channels', 8, '--out', out)
    assert done.returncode == 0, done.stderr
    rows = {line.split('│')[1].strip(): line for line in done.stdout.splitlines() if line.startswith('│')}
    assert 'sliding 3x3' in rows[mixers[0]] and 'window 7x7' in rows[mixers[1]]
    assert 'its own' in rows['torch.nn.Identity *']
    assert 'the Jacobian of the whole module takes the place of the weights' in done.stdout
    assert {path.name for path in out.iterdir()} == {'table.md', 'table.json', 'connectivity.png', 'relations.png'}
    data = json.loads((out / 'table.json').read_text(encoding='utf-8'))
    assert [place['name'] for place in data] == mixers
    assert data[1]['positions'] == dict(kind='window', extent=[7, 7]) and data[1]['shared_channels'] == 4
    text = (out / 'table.md').read_text(encoding='utf-8')
    assert all(f'| {mixer} ' in text for mixer in mixers)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'name a mixer or give --all; registered: Convolution,'),
        (['Attention'], "error: Attention with 128 channels: unknown mixer 'Attention': expected one of"),
        (['Convolution', '--channels', '0'], '--channels must be 1 or more, got 0'),
        (['GlobalAttention:head_channels=5'], 'head_channels must divide the channels'),
        (
            ['torch.nn.Flatten', '--channels', '8'],
            'error: torch.nn.Flatten: a token mixer keeps the shape of a map',
        ),
        (['DWNet'], 'error: DWNet: a token mixer takes a map of shape (1, 128, 9, 10)'),
    ],
)
def test_mistakes_end_in_one_line(run_python, arguments, message):
    done = run_python(TOOL, *arguments)
    assert done.returncode == 2 and done.stdout == ''
    assert message in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
