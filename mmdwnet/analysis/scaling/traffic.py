"""What a config's training step sends: its gradients, and the statistics of SyncBN."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ...engine.config import task_of
from ..complexity import without_weights
from .model import FLOAT


@dataclass(frozen=True)
class Traffic:
    """What a process sends in a step.

    Args:
        parameters: that are trained; each has a gradient of four bytes.
        sync_bn: channels of every SyncBN layer, in the order of the modules.
    """

    parameters: int
    sync_bn: tuple[int, ...]

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients."""
        return FLOAT * self.parameters

    @property
    def sync_bn_messages(self) -> int:
        """Messages that the net waits for: a layer has one of 2 C + 1 floats forward, one of 2 C backward."""
        return 2 * len(self.sync_bn)

    @property
    def sync_bn_bytes(self) -> int:
        """Bytes of these messages on one process."""
        return sum(FLOAT * (4 * channels + 1) for channels in self.sync_bn)


def traffic_of(cfg: Config) -> Traffic:
    """Count what the model of a config sends in training, without allocating its weights.

    Args:
        cfg: as `load_config` reads it.
    """
    task_of(cfg)
    with without_weights():
        model = MODELS.build(cfg.model)
    model.train()  # what is frozen then has its BNs in eval mode
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    backbone = cfg.model.get('backbone') or {}
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.SyncBatchNorm)
        or (isinstance(module, nn.BatchNorm2d) and _would_be_sync_bn(name, backbone))
    ]
    return Traffic(parameters, tuple(norm.num_features for norm in norms if norm.training))


def _would_be_sync_bn(name: str, backbone: dict) -> bool:
    """Whether a BN of DWNet is a SyncBN on a GPU: without one `build_norm` has put a BN in its place."""
    if not name.startswith('backbone.'):
        return False
    option = 'out_norm_cfg' if name.startswith('backbone.norm_bn') else 'norm_cfg'
    return (backbone.get(option) or {}).get('type') == 'SyncBN'
