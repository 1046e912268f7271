"""A file is written whole or not at all, and what stands in its way is named in one line."""

import pytest

from mmdwnet.checkpoints.writing import write_atomically
from mmdwnet.errors import UserError


def test_a_place_below_a_file_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    target = tmp_path / 'file' / 'page.html'
    with pytest.raises(UserError, match='page.html cannot be written: .*Not a directory') as error:
        write_atomically(target, lambda partial: partial.write_text('text'))
    assert '\n' not in str(error.value)
