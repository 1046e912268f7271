"""`tools/analysis_tools/benchmark.py` as it is typed."""

import json

import pytest

TOOL = 'tools/analysis_tools/benchmark.py'
QUICK = ['--rounds', 1, '--burst', 0, '--batch-size', 2, '--size', 32, '--device', 'cpu']


def test_prints_and_writes_what_was_measured(run_python, tmp_path):
    nets = ['dwnet-nano', 'as-published-dwnet-nano', 'dwnet-nano-deployed']
    out = tmp_path / 'out'
    done = run_python(
        TOOL, '--nets', *nets, '--tasks', 'inference', 'training', 'latency', '--precisions', 'float32', *QUICK,
        '--baseline', 'as-published-dwnet-nano', '--out', out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        'benchmark.json', 'benchmark.md', 'inference.png', 'training.png', 'latency.png',
    }  # fmt: skip
    data = json.loads((out / 'benchmark.json').read_text(encoding='utf-8'))
    assert data['machine']['threads'] == 1 and data['machine']['versions']['torch']
    assert str(tmp_path) not in json.dumps(data)
    assert [group['name'] for group in data['groups']] == ['inference', 'training', 'latency']
    inference, training, latency = ({row['net']: row for row in group['results']} for group in data['groups'])
    assert {row['batch'] for row in inference.values()} == {2} and {row['batch'] for row in latency.values()} == {
        1
    }
    assert inference['as-published-dwnet-nano']['ratio']['median'] == 1
    assert inference['dwnet-nano-deployed']['status'] == 'measured'
    assert training['dwnet-nano-deployed']['status'] == 'skipped'
    for label in ('DWNet-N', 'DWNet-N deployed', 'DWNet-N as published', 'a deployed net does not train'):
        assert label in done.stdout
    assert 'inference: batch 2, 32 x 32, cpu; baseline: DWNet-N as published' in done.stdout


def test_a_peer_that_fails_ends_the_run_with_status_1(run_python):
    pytest.importorskip('mmpretrain')
    nets = ['mmpretrain-swin-tiny', 'dwnet-nano']  # Swin-T of mmpretrain refuses maps below its window
    done = run_python(TOOL, '--nets', *nets, '--precisions', 'float32', *QUICK)
    assert done.returncode == 1
    assert 'Swin-T (mmpretrain) in float32: failed: AssertionError' in done.stdout
    assert 'Traceback' not in done.stderr
    assert any('DWNet-N' in line and 'float32' in line for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--suite', 'gpu'], 'error: no GPU: torch sees none; expected a CUDA device, or --device cpu'),
        (['--suite', 'gpu', '--device', 'cpu'], 'error: --suite gpu measures on cuda'),
        (['--nets', 'swim-tiny'], 'error: --nets swim-tiny: no net of that name'),
        (['--suite', 'quick', '--nets', 'dwnet-tiny'], 'give it without --nets'),
    ],
)
def test_mistakes_end_in_one_line(run_python, arguments, message):
    done = run_python(TOOL, *arguments, CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 2 and done.stdout == ''
    assert message in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
