"""The forks in which other tests run scripts are like processes of Python; each tool starts as one of those."""

import signal
import subprocess

import pytest
from warm_python import ROOT, run_python, start_python

TOOLS = sorted(path.relative_to(ROOT) for path in (ROOT / 'tools').rglob('*.py') if '__main__' in path.read_text())
SCRIPT = """
import os, random, sys
import numpy as np, torch
print(sys.argv, os.getcwd(), sys.path[0], __name__, __file__, os.environ['OMP_NUM_THREADS'], sys.stdout.isatty())
print('drawn', random.random(), np.random.rand(), torch.rand(1))
print('to the other\\r', file=sys.stderr)
exec(sys.argv[1])
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    return tmp_path / 'script.py'


@pytest.mark.parametrize(
    'end',
    [
        'pass',
        'sys.exit(3)',
        'sys.exit("a line")',
        'raise ValueError(7)',
        'os._exit(4)',
        'os.kill(os.getpid(), 9)',
        'import atexit; atexit.register(print, "at exit")',
        'import multiprocessing; sys.exit(multiprocessing.Pool(1).map(len, ["four"])[0])',
    ],
)
def test_a_fork_ends_as_a_process_does(end, script, tmp_path):
    fork = run_python(script, end, cwd=tmp_path)
    process = run_python(script, end, cwd=tmp_path, A_VARIABLE='makes it a process')
    assert fork.returncode == process.returncode
    here, there = ([line for line in done.stdout.splitlines() if 'drawn' not in line] for done in (fork, process))
    assert here == there
    assert fork.stderr.splitlines()[:1] == process.stderr.splitlines()[:1]
    assert fork.stderr.splitlines()[-1:] == process.stderr.splitlines()[-1:]


def test_forks_draw_numbers_of_their_own(script):
    one, other = (run_python(script, 'pass').stdout.rpartition('drawn')[2].split() for _ in range(2))
    assert len(one) == 3 and not set(one) & set(other)


def test_a_variable_that_a_test_sets_is_there(script, monkeypatch):
    monkeypatch.setenv('A_VARIABLE', 'set')
    assert run_python(script, 'print(os.environ["A_VARIABLE"])').stdout.endswith('set\n')


def test_what_takes_too_long_is_killed(script):
    with pytest.raises((TimeoutError, subprocess.TimeoutExpired)):
        run_python(script, 'import time; time.sleep(60)', timeout=1)


def test_a_started_script_is_followed_and_signalled(script):
    process = start_python(script, 'import time; print("begun"); time.sleep(60)')
    assert any('begun' in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    process.send_signal(signal.SIGTERM)  # it is over, and nobody else is hit


@pytest.mark.parametrize('tool', TOOLS, ids=str)
def test_a_tool_starts_as_a_process(tool):
    """With all that it imports, which forks have imported already."""
    done = run_python(tool, '--help', PYTHONHASHSEED='1')
    assert done.returncode == 0 and done.stdout.startswith('usage: '), done.stderr
    assert not done.stderr
