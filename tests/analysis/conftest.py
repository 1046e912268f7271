"""What the tests of the tables share: one measurement of every row, and reading metafiles once."""

import functools
import os
import pickle

import pytest
from filelock import FileLock
from mmengine.config import utils as config_utils

from mmdwnet.analysis.published import load_tables
from mmdwnet.analysis.tables import measure_table


@pytest.fixture(scope='session')
def measured(tmp_path_factory):
    """Every table with all its rows counted, and no results; by one of the processes that pytest may have."""
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return measure()
    kept = tmp_path_factory.getbasetemp().parent / 'measured.pickle'  # a folder of this run, for all its processes
    with FileLock(f'{kept}.lock'):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(measure()))
    return pickle.loads(kept.read_bytes())


def measure():
    with pytest.MonkeyPatch.context() as patch:
        # mmengine reads all metafiles of a library for every base of it
        patch.setattr(config_utils, 'load', functools.cache(config_utils.load))
        return [(table, measure_table(table, {})) for table in load_tables()]
