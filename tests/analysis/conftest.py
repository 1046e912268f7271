"""What the tests of the tables share: one measurement of every row, and reading metafiles once."""

import fcntl
import functools
import os
import pickle

import pytest
from mmengine.config import utils as config_utils

from mmdwnet.analysis.published import load_tables
from mmdwnet.analysis.tables import measure_table


@pytest.fixture(scope='session')
def measured(request, tmp_path_factory):
    """Every table with all its rows counted, and no results; by one of the processes that pytest may have."""
    if not hasattr(request.config, 'workerinput'):
        return measure()
    kept = tmp_path_factory.getbasetemp().parent / 'measured.pickle'  # a folder of this run, for all its processes
    with kept.with_suffix('.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            written = kept.with_suffix('.partial')
            written.write_bytes(pickle.dumps(measure()))
            os.replace(written, kept)
    return pickle.loads(kept.read_bytes())


def measure():
    """Count every row of every table, reading the libraries' metafiles once: mmengine does for every base."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_utils, 'load', functools.cache(config_utils.load))
        return [(table, measure_table(table, {})) for table in load_tables()]
