"""What the tests share: a small mini dataset, and running a command line as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdwnet.datasets import mini

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def mini_root(tmp_path_factory):
    """A mini dataset of 20 + 10 images of 64 x 64 in its three layouts."""
    root = tmp_path_factory.mktemp('data') / 'mini'
    mini.generate(root, seed=0, size=64, num_train=20, num_val=10)
    return root


@pytest.fixture(scope='session')
def run_python():
    """Run `python ARGS...` in the repository, on one thread, and return the finished process."""

    def run(*args, cwd=ROOT, **env):
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **env}
        command = [sys.executable, *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)

    return run
