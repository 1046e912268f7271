"""A batch of one size on any number of processes: images per process, and batches that are accumulated."""

from __future__ import annotations

from mmengine.config import Config

from ..errors import UserError


def set_total_batch_size(cfg: Config, total: int, world_size: int) -> None:
    """Choose the batch of a process and the accumulation so that an optimizer step takes `total` images.

    A process takes as many images at once as they fit into the batch of the config, which is taken for what fits
    into its memory.

    Args:
        cfg: a config with a training part; changed in place.
        total: images of an optimizer step.
        world_size: processes.

    Raises:
        UserError: it cannot be divided so; the line names the nearest totals that can.
    """
    most = cfg.train_dataloader.batch_size
    if total < 1 or total % world_size:
        lower = total // world_size * world_size
        fitting = [str(size) for size in (lower, lower + world_size) if size > 0]
        raise UserError(
            f'--total-batch-size {total} cannot be divided among {world_size} processes: expected a multiple of '
            f'{world_size}, such as {" or ".join(fitting)}'
        )
    share = total // world_size
    accumulation = next(count for count in range(-(-share // most), share + 1) if share % count == 0)
    batch = share // accumulation
    if batch * 4 <= most and share > most:  # a share that is prime, or nearly so
        nearest = [size for size in (share // most * most, -(-share // most) * most) if size]
        totals = ' or '.join(str(size * world_size) for size in dict.fromkeys(nearest))
        raise UserError(
            f'--total-batch-size {total}: {share} images a process divide into batches of {batch} only, for at '
            f'most {most} (train_dataloader.batch_size) are taken at once: choose such as {totals}'
        )
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.accumulative_counts = accumulation
