"""What the tests share: a small mini dataset, and running a command line as a user does."""

import pytest
import warm_python

from mmdwnet.datasets import mini


@pytest.fixture(scope='session')
def mini_root(tmp_path_factory):
    """A mini dataset of 20 + 10 images of 64 x 64 in its three layouts."""
    root = tmp_path_factory.mktemp('data') / 'mini'
    mini.generate(root, seed=0, size=64, num_train=20, num_val=10)
    return root


@pytest.fixture(scope='session')
def run_python():
    """Run `python ARGS...` in the repository, on one thread, and return the finished process."""
    return warm_python.run_python
