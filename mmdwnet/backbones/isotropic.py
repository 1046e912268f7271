"""The isotropic net: ViT's body, one size of map from the first block to the last, with any token mixer.

Sources: Dosovitskiy et al., ViT (ICLR 2021), section 3.1; Touvron et al., DeiT (ICML 2021), sizes and distillation
token. With GlobalAttention it equals mmpretrain's VisionTransformer('deit-small'), which a test holds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..mixers.base import SequenceMixer, as_map, as_sequence
from ..mixers.building import build_mixer
from ..mixers.norm import LayerNorm2d
from ..mixers.windows import pad_to_multiple
from ..registry import MODELS
from .archs import isotropic_arch
from .layers import PreNormBlock
from .state import check_state_dict, take_backbone

EPS = 1e-6  # of every LayerNorm, as in DeiT


@MODELS.register_module()
class IsotropicNet(BaseModule):
    """A patch embedding and blocks of `x + mixer(norm(x))`, `x + mlp(norm(x))` on maps of one size.

    Any input size: an image is padded with zeros at the right and the bottom to multiples of the patches, and what
    is learned per position is resized.

    Args:
        arch: 'deit-nano', 'deit-tiny', 'deit-small', 'deit-base', or a dict of `embed_dims` and `depth`.
        mixer: a registered token mixer by name, or a dict of its `type` and options.
        in_channels: channels of the image.
        img_size: of the images that what is learned per position is made for.
        patch_size: side of a patch.
        class_token: a token beside the map, which the mixer has to take (attention does); its final state is the
            output. Without it the output is the map.
        distillation_token: a second one, for a head that is taught by another network.
        absolute_position: add a learned embedding per position, and per token, to the embedded patches.
        drop_path_rate: of the last block; it rises linearly from 0 at the first one.
        frozen_stages: -1 nothing, 0 the patch embedding and the tokens, k those and the first k blocks.
        norm_cfg: the norms inside mixers.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an unknown arch or mixer, a class token for a mixer without such, or an argument out of range.
    """

    def __init__(
        self,
        arch: str | dict = 'deit-small',
        mixer: str | dict = 'GlobalAttention',
        in_channels: int = 3,
        img_size: int = 224,
        patch_size: int = 16,
        class_token: bool = True,
        distillation_token: bool = False,
        absolute_position: bool = True,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ):
        super().__init__(init_cfg)
        sizes = isotropic_arch(arch)
        channels, depth = sizes.embed_dims, sizes.depth
        if distillation_token and not class_token:
            raise ValueError('distillation_token stands beside a class token: set class_token=True too')
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must lie in [0, 1), got {drop_path_rate}')
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= depth:
            raise ValueError(
                f'frozen_stages must be -1 (none), 0 (patch embedding) or up to {depth} (so many blocks too), '
                f'got {frozen_stages}'
            )
        self.frozen_stages = frozen_stages
        self.patch_size = patch_size
        self.tokens = int(class_token) + int(distillation_token)
        self.map_size = (-(-img_size // patch_size),) * 2
        # what the checks before a run read of every backbone: channels of its outputs, and whether it is deployed
        self.channels, self.out_indices, self.deploy = (channels,), (0,), False
        self.name = f'IsotropicNet(arch={arch!r}, mixer={mixer!r})'

        self.patch_embed = nn.Conv2d(in_channels, channels, patch_size, stride=patch_size)
        # under these names the weight decay rules of the DeiT recipes know them
        self.cls_token = _learned(1, 1, channels) if class_token else None
        self.dist_token = _learned(1, 1, channels) if distillation_token else None
        positions = self.tokens + self.map_size[0] * self.map_size[1]
        self.pos_embed = _learned(1, positions, channels) if absolute_position else None
        place = dict(channels=channels, norm_cfg=norm_cfg, map_size=self.map_size)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            PreNormBlock(build_mixer(mixer, **place), channels, 4, rate, eps=EPS) for rate in rates
        )
        if self.tokens and not isinstance(self.blocks[0].mixer, SequenceMixer):
            raise ValueError(
                f'mixer={mixer!r} mixes maps and takes no token beside them: set class_token=False, or choose an '
                'attention over all positions'
            )
        self.norm = LayerNorm2d(channels, EPS)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Return a tuple of one output, as classifiers expect of a backbone.

        Args:
            x: images, (B, in_channels, H, W), any H and W.

        Returns:
            With a class token its final state, (B, C), or those of class and distillation token, two of (B, C);
            without one the last map, (B, C, ceil(H / patch), ceil(W / patch)).
        """
        x = pad_to_multiple(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        x = self.patch_embed(x)  # (B, C, H / patch, W / patch)
        size = tuple(x.shape[2:])
        if self.tokens:
            tokens = [token for token in (self.cls_token, self.dist_token) if token is not None]
            x = torch.cat((*(token.expand(len(x), -1, -1) for token in tokens), as_sequence(x)), 1)
            x = as_map(x, (1, -1))  # (B, C, 1, T + N): what works on channels sees a map
        if self.pos_embed is not None:
            x = x + as_map(self._positions(size), tuple(x.shape[2:]))
        for block in self.blocks:
            x = block(x, size if self.tokens else None)
        x = self.norm(x)
        if not self.tokens:
            return (x.contiguous(),)
        states = x[:, :, 0, : self.tokens].unbind(2)  # (B, C) each
        return (states[0] if len(states) == 1 else states,)

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """The embedding of tokens and positions, (1, T + N, C), for a map of any size."""
        if size == self.map_size:
            return self.pos_embed
        of_map = as_map(self.pos_embed[:, self.tokens :], self.map_size)
        of_map = F.interpolate(of_map, size, mode='bicubic', align_corners=False)
        return torch.cat((self.pos_embed[:, : self.tokens], as_sequence(of_map)), 1)

    def train(self, mode: bool = True) -> IsotropicNet:
        """Set the mode; frozen parts stay in eval mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.patch_embed, *self.blocks[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)
        for learned in (self.cls_token, self.dist_token, self.pos_embed):
            if learned is not None:
                learned.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rate decay, as mmpretrain's optimizer constructor asks.

        Args:
            param_name: full name of the parameter.
            prefix: the part of that name that stands before this backbone's own, such as 'backbone.'.

        Returns:
            The depth (0 patches, tokens and positions, 1 to N the blocks, N + 1 what comes after), and N + 2.
        """
        last = len(self.blocks) + 1
        part, *rest = param_name[len(prefix) :].split('.') if param_name.startswith(prefix) else ('',)
        if part in ('patch_embed', 'cls_token', 'dist_token', 'pos_embed'):
            return 0, last + 1
        return (int(rest[0]) + 1 if part == 'blocks' else last), last + 1

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if not prefix:  # by itself, from a checkpoint that may be a whole classifier's
            take_backbone(state_dict)
        check_state_dict(self, state_dict, prefix, self.name, ())
        super()._load_from_state_dict(state_dict, prefix, *args)


def _learned(*shape: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.empty(shape))
    nn.init.trunc_normal_(parameter, std=0.02)
    return parameter
