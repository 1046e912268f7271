"""What the tests of the tables share: one measurement of every row, and reading metafiles once."""

import functools

import pytest
from mmengine.config import utils as config_utils

from mmdwnet.analysis.published import load_tables
from mmdwnet.analysis.tables import measure_table


@pytest.fixture(scope='session')
def measured():
    """Every table with all its rows counted, and no results."""
    with pytest.MonkeyPatch.context() as patch:
        # mmengine reads all metafiles of a library for every base of it
        patch.setattr(config_utils, 'load', functools.cache(config_utils.load))
        return [(table, measure_table(table, {})) for table in load_tables()]
