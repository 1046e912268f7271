"""One total batch on any number of processes."""

import pytest
from mmengine.config import Config

from mmdwnet.engine.batch_size import set_total_batch_size
from mmdwnet.errors import UserError


def config(batch_size=64):
    return Config(dict(train_dataloader=dict(batch_size=batch_size), optim_wrapper=dict(accumulative_counts=2)))


@pytest.mark.parametrize(
    ('total', 'world_size', 'batch', 'accumulation'),
    [(1024, 16, 64, 1), (1024, 8, 64, 2), (1024, 1, 64, 16), (1024, 32, 32, 1), (96, 1, 48, 2), (600, 4, 50, 3)],
)
def test_the_batch_of_a_process_and_the_accumulation_make_the_total(total, world_size, batch, accumulation):
    cfg = config()
    set_total_batch_size(cfg, total, world_size)
    assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.accumulative_counts) == (batch, accumulation)
    assert batch * accumulation * world_size == total


@pytest.mark.parametrize(
    ('total', 'world_size', 'message'),
    [
        (100, 8, r'cannot be divided among 8 processes: expected a multiple of 8, such as 96 or 104'),
        (0, 8, r'expected a multiple of 8, such as 8'),
        (
            1018,
            2,
            r'509 images a process divide into batches of 1 only, for at most 64 .*: choose such as 896 or 1024',
        ),
    ],
)
def test_what_cannot_be_divided_is_refused_with_numbers_that_can(total, world_size, message):
    with pytest.raises(UserError, match=message):
        set_total_batch_size(config(), total, world_size)
