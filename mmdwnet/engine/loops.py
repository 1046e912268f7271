"""Training loops that can begin in the middle of an epoch; otherwise they are mmengine's."""

from __future__ import annotations

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch import nn
from torch.utils.data import DataLoader

from ..registry import LOOPS
from .data_order import ResumableBatchSampler, seed_samples


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop, which goes on with the batch after the last one that was trained on.

    Its arguments are those of mmengine's.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        seed_samples(self.dataloader.dataset)

    def run_epoch(self) -> None:
        """Iterate what is left of the epoch."""
        seen = self._iter - self._epoch * len(self.dataloader)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        _batches_of(self.dataloader).skip(seen)
        for number, data_batch in enumerate(self.dataloader, seen):
            self.run_iter(number, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's IterBasedTrainLoop, which does not load again what was trained on.

    Its arguments are those of mmengine's.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # the original mmengine has started the loader's processes by now: they know neither seeds nor hooks
        self.dataloader_iterator = self.dataloader._iterator = None
        seed_samples(self.dataloader.dataset)

    def run(self) -> nn.Module:
        """Launch training."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')  # an epoch is the whole run, as in mmengine
        batches = _batches_of(self.dataloader)
        epoch, seen = divmod(self._iter, len(self.dataloader)) if batches.sampler.ends() else (0, self._iter)
        batches.sampler.set_epoch(epoch)
        batches.skip(seen)
        self.dataloader_iterator = _InfiniteDataloaderIterator(self.dataloader)
        self.dataloader_iterator._epoch = epoch
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if (
                self.runner.val_loop is not None
                and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
            ):
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


def _batches_of(dataloader: DataLoader) -> ResumableBatchSampler:
    return dataloader.batch_sampler
