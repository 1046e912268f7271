"""DWNets for timm: `import mmdwnet.timm_models`, then `timm.create_model('dwnet_tiny')`.

A model is the classifier of `configs/imagenet`, with the same names of weights and the same outputs; official
checkpoints load into it as they are. All that timm asks of a classification model is there: `features_only`,
`num_classes`, `in_chans`, `global_pool`, `drop_rate`, `drop_path_rate`, `reset_classifier` and the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import initialize
from torch import Tensor, nn

try:
    from timm.layers import ClassifierHead
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
    from timm.models import load_pretrained as load_into
    from timm.models._features import feature_take_indices
except ImportError as error:
    raise ImportError(f'mmdwnet.timm_models needs timm 1.0 or newer ({error}): run `pip install timm`') from None

from .backbones import DWNet
from .checkpoints import is_official, load_as_ours, official_to_ours
from .checkpoints.reading import weights_of
from .errors import UserError
from .zoo import find_model

MIXERS = {
    'dwnet': 'DepthwiseConv',
    'dynamic_dwnet': 'DynamicDepthwiseConv',
    'idynamic_dwnet': 'InhomogeneousDynamicDepthwiseConv',
}
SIZES = ('nano', 'tiny', 'base')  # the archs of the table that are DWNet's own


class TimmDWNet(nn.Module):
    """A DWNet as timm has its models.

    Args:
        arch: of `DWNet`.
        mixer: of `DWNet`.
        num_classes: of the classifier; 0 for none.
        in_chans: channels of the image.
        global_pool: of timm's `ClassifierHead`; '' for none.
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last block; it rises linearly from 0.
    """

    def __init__(
        self,
        arch: str,
        mixer: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.backbone = DWNet(arch, mixer, in_channels=in_chans, drop_path_rate=drop_path_rate)
        channels = self.backbone.channels
        self.num_features = self.head_hidden_size = channels[-1]
        self.feature_info = [
            dict(num_chs=count, reduction=4 * 2**i, module=f'backbone.stages.{i}')
            for i, count in enumerate(channels)
        ]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        initialize(self, self.backbone.init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Images, (B, in_chans, H, W), any H and W, to logits, (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, normalised, (B, C, ceil(H / 32), ceil(W / 32))."""
        return self.backbone(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The head on the last map; with `pre_logits` what its linear layer would get."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of some stages, and the last one.

        Args:
            x: images.
            indices: the stages, or how many of the last ones; None for all.
            norm: apply the last norm to the map of the last stage.
            stop_early: run no stage behind the last one that is asked for.
            output_fmt: 'NCHW', the only one there is.
            intermediates_only: return no more than the maps that are asked for.

        Raises:
            ValueError: another `output_fmt`.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt={output_fmt!r}: expected 'NCHW'")
        net, last = self.backbone, len(self.backbone.stages) - 1
        asked, furthest = feature_take_indices(last + 1, indices)
        maps = []
        x = net.patch_embed(x)
        for i in range((furthest if stop_early else last) + 1):
            x = net.run_stage(i, x)
            if i in asked:
                maps.append((self._norm(x) if norm and i == last else x).contiguous())
        if intermediates_only:
            return maps
        return (self._norm(x) if i == last else x).contiguous(), maps

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps of some stages do not need; return the stages."""
        asked, furthest = feature_take_indices(len(self.backbone.stages), indices)
        if prune_norm or furthest < len(self.backbone.stages) - 1:
            setattr(self.backbone, self._norm_name, nn.Identity())
        self.backbone.stages = self.backbone.stages[: furthest + 1]
        if prune_head:
            self.reset_classifier(0, '')
        return asked

    @property
    def _norm_name(self) -> str:
        return next(iter(self.backbone.out_norm_names.values()))

    def _norm(self, x: Tensor) -> Tensor:
        return self.backbone.get_submodule(self._norm_name)(x)

    def get_classifier(self) -> nn.Module:
        """The linear layer of the head."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh linear layer into the head, of other classes; 0 for none."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        initialize(self.head, self.backbone.init_cfg)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activations inside blocks and compute them again in the backward pass, or do."""
        self.backbone.with_cp = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters belong to which layer, for learning rates that fall from layer to layer."""
        merging = (r'^backbone\.stages\.(\d+)\.downsample', (0,))
        block = (r'^backbone\.stages\.(\d+)\.blocks\.(\d+)', None)
        last = (r'^backbone\.norm_', (99999,))  # timm's number for what comes after all blocks
        blocks = r'^backbone\.stages\.(\d+)' if coarse else [merging, block, last]
        return dict(stem=r'^backbone\.patch_embed', blocks=blocks)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not decayed, beside those of one dimension, which timm knows itself: none."""
        return set()

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """As every module's; a state dict of the official code is taken too."""
        return super().load_state_dict(_ours(state_dict), strict, assign)

    def load_pretrained(self, checkpoint_path: str, prefix: str = '') -> None:
        """Load a checkpoint file, official or ours, without running code from it; timm calls it for its URLs.

        A head of other classes is left as it is, a first layer of other channels is adapted, as timm does.

        Raises:
            UserError: the file cannot be read, or holds no weights.
        """
        weights = weights_of(load_as_ours(checkpoint_path))
        if weights is None:
            raise UserError(f'{checkpoint_path} holds no weights: expected a checkpoint of a DWNet')
        cfg = {**self.pretrained_cfg, 'state_dict': weights}
        load_into(self, cfg, num_classes=self.num_classes, in_chans=self.in_chans)


def _ours(state_dict: dict[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    return official_to_ours(state_dict) if is_official(state_dict) else state_dict


def _cfg(name: str) -> dict[str, Any]:
    url = find_model(name.replace('_', '-'), 'cls').weights
    return dict(
        url=url or '',
        custom_load=bool(url),  # the official files hold more than weights, which timm's own reading refuses
        pool_size=(7, 7),
        first_conv='backbone.patch_embed.proj',
        classifier='head.fc',
        paper_ids='arXiv:2106.04263',
        origin_url='https://github.com/Atten4Vis/DemystifyLocalViT',
    )


NAMES = tuple(f'{net}_{size}' for net in MIXERS for size in SIZES)
default_cfgs = generate_default_cfgs({f'{name}.in1k': _cfg(name) for name in NAMES})


def _create(name: str, pretrained: bool, **kwargs) -> nn.Module:
    net, _, size = name.rpartition('_')
    features = dict(out_indices=tuple(range(4)), feature_cls='getter')
    return build_model_with_cfg(
        TimmDWNet,
        name,
        pretrained,
        pretrained_filter_fn=_ours,
        feature_cfg=features,
        arch=size,
        mixer=MIXERS[net],
        **kwargs,
    )


@register_model
def dwnet_nano(pretrained: bool = False, **kwargs) -> nn.Module:
    """DWNet-nano, a net for tests and first tries: static depth-wise convolution."""
    return _create('dwnet_nano', pretrained, **kwargs)


@register_model
def dwnet_tiny(pretrained: bool = False, **kwargs) -> nn.Module:
    """DWNet-T: static depth-wise convolution, 24 M parameters. `pretrained=True` loads the official weights."""
    return _create('dwnet_tiny', pretrained, **kwargs)


@register_model
def dwnet_base(pretrained: bool = False, **kwargs) -> nn.Module:
    """DWNet-B: static depth-wise convolution, 74 M parameters. `pretrained=True` loads the official weights."""
    return _create('dwnet_base', pretrained, **kwargs)


@register_model
def dynamic_dwnet_nano(pretrained: bool = False, **kwargs) -> nn.Module:
    """Dynamic DWNet-nano, a net for tests and first tries: one kernel per image."""
    return _create('dynamic_dwnet_nano', pretrained, **kwargs)


@register_model
def dynamic_dwnet_tiny(pretrained: bool = False, **kwargs) -> nn.Module:
    """Dynamic DWNet-T: one kernel per image, 51 M parameters. `pretrained=True` loads the official weights."""
    return _create('dynamic_dwnet_tiny', pretrained, **kwargs)


@register_model
def dynamic_dwnet_base(pretrained: bool = False, **kwargs) -> nn.Module:
    """Dynamic DWNet-B: one kernel per image, 162 M parameters. `pretrained=True` loads the official weights."""
    return _create('dynamic_dwnet_base', pretrained, **kwargs)


@register_model
def idynamic_dwnet_nano(pretrained: bool = False, **kwargs) -> nn.Module:
    """Inhomogeneous dynamic DWNet-nano, a net for tests and first tries: one kernel per position."""
    return _create('idynamic_dwnet_nano', pretrained, **kwargs)


@register_model
def idynamic_dwnet_tiny(pretrained: bool = False, **kwargs) -> nn.Module:
    """Inhomogeneous dynamic DWNet-T: one kernel per position, 26 M parameters; no weights are published."""
    return _create('idynamic_dwnet_tiny', pretrained, **kwargs)


@register_model
def idynamic_dwnet_base(pretrained: bool = False, **kwargs) -> nn.Module:
    """Inhomogeneous dynamic DWNet-B: one kernel per position, 80 M parameters; no weights are published."""
    return _create('idynamic_dwnet_base', pretrained, **kwargs)
