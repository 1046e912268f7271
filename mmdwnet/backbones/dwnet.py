"""DWNet: Swin's pyramid with a depth-wise convolution in place of window attention, one class for three tasks.

Source: Han et al., "On the Connection between Local Attention and Dynamic Depth-wise Convolution" (ICLR 2022),
section 4; Atten4Vis/DemystifyLocalViT at ce7c0b7 (classification, detection and segmentation backbones).
The mixer is a config entry, the sizes are `archs.py`'s, and what the tasks differ in are arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..mixers.building import build_mixer
from ..mixers.norm import build_norm
from ..mixers.side_by_side import as_batch, side_by_side
from ..ops.tracing import is_compiling, is_exported, is_recorded, looks_into_modules
from ..registry import MODELS
from .archs import pyramid_arch
from .deploy import check_same_form, fold_block
from .layers import PATCHES, Block, PreNormBlock
from .state import check_state_dict, take_backbone

# What a deployed net on a CPU works through at once, 8 images of 224 x 224. Whole, a batch of 64 takes 40 % more
# time an image than one of 8: its maps leave the cache, and so much memory is asked of the system anew every time.
PIXELS_AT_ONCE = 8 * 224 * 224


@MODELS.register_module()
class DWNet(BaseModule):
    """A pyramid of patch embedding and stages of `x + mixer(x)`, `x + mlp(bn(x))`, with patch merging between.

    Inside, maps are in channels_last memory; the returned ones are contiguous.

    Any input size: what no longer divides is padded with zeros at the right and the bottom. Stage i has
    `embed_dims * 2**i` channels and a stride of `4 * 2**i`.

    Args:
        arch: 'nano', 'tiny', 'base', 'swin-tiny', 'nat-mini' or another name of `archs.PYRAMID_ARCHS`, or a dict
            of `embed_dims`, `depths` and other fields of `archs.PyramidArch`.
        mixer: a registered token mixer by name, or a dict of its `type` and options, e.g.
            `dict(type='InhomogeneousDynamicDepthwiseConv', groups=16)`; a list of such entries is taken in turn by
            the blocks of each stage. The default is the arch's own.
        in_channels: channels of the image.
        img_size: of the images that what is learned per position is made for; other sizes resize it.
        absolute_position: add a learned embedding per position and channel to the embedded patches.
        out_indices: the stages to return; negative ones count from the end.
        frozen_stages: -1 nothing, 0 the patch embedding, k that and the first k stages: no gradient, eval mode.
        norm_eval: keep every BN in eval mode while training.
        norm_cfg: the norms inside mixers and of DWNet's blocks: BN, SyncBN (a BN where there is no accelerator),
            GN. The blocks of other archs have LayerNorms.
        out_norm_cfg: the norm of every returned map, None for none. LN, the default, is the last norm of a
            classifier (out_indices=(-1,)); the published detectors and segmentors have SyncBN on all four.
        drop_path_rate: of the last block; it rises linearly from 0 at the first one.
        with_cp: keep no activations inside blocks and compute them again in the backward pass; BN statistics
            still move once a step.
        window_padding: pad every mixer's input to multiples of its kernel size, which DWNet's published detection
            and segmentation weights need.
        deploy: build it as `switch_to_deploy` leaves it, for the checkpoints that
            tools/model_converters/deploy.py writes.
        init_cfg: mmengine initialisation. The default touches Linear and LayerNorm only and leaves convolutions
            to torch's default, as the official code does.

    Raises:
        ValueError: an unknown arch or mixer, or an argument out of range; the message says what would fit.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        mixer: str | dict | Sequence | None = None,
        in_channels: int = 3,
        img_size: int = 224,
        absolute_position: bool = False,
        out_indices: int | Sequence[int] = (-1,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict = dict(type='BN'),
        out_norm_cfg: dict | None = dict(type='LN'),
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        window_padding: bool = False,
        deploy: bool = False,
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ):
        super().__init__(init_cfg)
        sizes = pyramid_arch(arch)
        mixers = _in_turn(sizes.mixer if mixer is None else mixer)
        self.depths = sizes.depths
        self.channels = tuple(sizes.embed_dims * 2**i for i in range(len(self.depths)))
        self.out_indices = _checked_out_indices(out_indices, len(self.depths))
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= len(self.depths):
            raise ValueError(
                f'frozen_stages must be -1 (none), 0 (patch embedding) or up to {len(self.depths)} (so many '
                f'stages too), got {frozen_stages}'
            )
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must lie in [0, 1), got {drop_path_rate}')
        if window_padding and sizes.block != 'dwnet':
            raise ValueError(f"window_padding is of DWNet's blocks, and arch={arch!r} has {sizes.block} ones")
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.name = f'DWNet(arch={arch!r}, mixer={mixers[0] if len(mixers) == 1 else mixers!r})'

        embed, merging = PATCHES[sizes.patches]
        self.patch_embed = embed(in_channels, self.channels[0])
        side = -(-img_size // 4)
        shape = (1, self.channels[0], side, side)
        # under this name the weight decay rules of the Swin recipes know it
        self.absolute_pos_embed = nn.Parameter(torch.empty(shape)) if absolute_position else None
        if absolute_position:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        blocks = sum(self.depths)
        rates = [drop_path_rate * i / max(blocks - 1, 1) for i in range(blocks)]
        self.stages = nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(self.channels, self.depths, strict=True)):
            stage = nn.Module()
            stage.downsample = merging(self.channels[i - 1]) if i else nn.Identity()
            place = dict(channels=channels, norm_cfg=norm_cfg, map_size=(side, side))
            stage.blocks = nn.ModuleList()
            for j in range(depth):
                block_mixer = build_mixer(mixers[j % len(mixers)], **place)
                if sizes.block == 'dwnet':
                    block = Block(block_mixer, channels, norm_cfg, rates.pop(0), window_padding)
                else:
                    block = PreNormBlock(block_mixer, channels, sizes.mlp_ratio, rates.pop(0), sizes.layer_scale)
                stage.blocks.append(block)
            self.stages.append(stage)
            side = -(-side // 2)
        # 'norm' in the name, for the weight decay rules; its kind too, for a LayerNorm of a classifier must not
        # load into the BN of a detector
        self.out_norm_names: dict[int, str] = {}
        if out_norm_cfg is not None:
            for i in self.out_indices:
                kind, norm = build_norm(out_norm_cfg, self.channels[i])
                self.out_norm_names[i] = f'norm_{kind}{i}'
                self.add_module(self.out_norm_names[i], norm)
        self._freeze()
        self.deploy = False
        if deploy:
            self.switch_to_deploy()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in `out_indices`: (B, C_i, ceil(H / s_i), ceil(W / s_i)) each.

        Args:
            x: images, (B, in_channels, H, W), any H and W.
        """
        # a traced net must not depend on the size of the batch that it was traced with
        if is_recorded() or not self.deploy or x.device.type != 'cpu':
            return self._forward(x)
        at_once = max(1, PIXELS_AT_ONCE // max(x.shape[2] * x.shape[3], 1))
        parts = [self._forward(part) for part in x.split(at_once)]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(maps) for maps in zip(*parts, strict=True))

    def _forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.patch_embed(x)
        if self.absolute_pos_embed is not None:
            x = x + _resized(self.absolute_pos_embed, x.shape[2:])
        outs = []
        for i in range(len(self.stages)):
            x = self.run_stage(i, x)
            if i in self.out_indices:
                out = getattr(self, self.out_norm_names[i])(x) if self.out_norm_names else x
                # mmcv's RoIAlign (2.3.6) reads any memory as if it were contiguous, without a word: channels_last
                # ends here, at the cost of a copy that is small beside the stage
                outs.append(out.contiguous())
        return tuple(outs)

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        """Run one stage on the map of the one before it, or on the embedded patches; no output norm is applied."""
        stage = self.stages[index]
        x = stage.downsample(x)
        if self._runs_side_by_side(stage.blocks, x):
            x = side_by_side(x)
            for block in stage.blocks:
                x = block(x, side_by_side=True)
            return as_batch(x)
        for block in stage.blocks:
            x = self._run_block(block, x)
        return x

    def _runs_side_by_side(self, blocks: nn.ModuleList, x: Tensor) -> bool:
        keeps_little = self.with_cp and torch.is_grad_enabled()
        unasked = is_exported() or (is_compiling() and not looks_into_modules)
        if not self.deploy or keeps_little or unasked or x.device.type != 'cpu' or x.shape[0] < 2:
            return False
        return all(type(block) is Block and block.runs_side_by_side() for block in blocks)

    def _run_block(self, block: Block, x: Tensor) -> Tensor:
        if not (self.with_cp and torch.is_grad_enabled()):
            return block(x)
        contexts = lambda: (contextlib.nullcontext(), _still_statistics(block))  # noqa: E731
        return checkpoint(block, x, use_reentrant=False, context_fn=contexts)

    def switch_to_deploy(self) -> DWNet:
        """Make it a net for inference alone, in place, and return it; a second call changes nothing.

        Every BN that can be folded is folded (`deploy.py` says which), weights are in channels_last memory, and
        nothing has a gradient. In float32 the outputs stay the same to 1e-4 of their largest value.
        """
        if not self.deploy:
            for stage in self.stages:
                for block in stage.blocks:
                    fold_block(block)
            self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
            self.with_cp = False
            self.deploy = True
        return self

    def train(self, mode: bool = True) -> DWNet:
        """Set the mode; frozen parts stay in eval mode, and so does every BN with `norm_eval`.

        Raises:
            RuntimeError: training mode of a deployed net.
        """
        if mode and self.deploy:
            raise RuntimeError(
                f'{self.name} is deployed and cannot be trained, for its BNs are folded into its weights: build '
                'it without deploy=True and load the checkpoint of its training'
            )
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        """Freeze the first stages. Output norms are never frozen: they start afresh with every task."""
        frozen = [self.patch_embed, *self.stages[: max(self.frozen_stages, 0)]] if self.frozen_stages >= 0 else []
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning rate decay, as mmpretrain's optimizer constructor asks.

        Args:
            param_name: full name of the parameter.
            prefix: the part of that name that stands before this backbone's own, such as 'backbone.'.

        Returns:
            The depth (0 the patch embedding, 1 to N the blocks, a merging with the block after it, N + 1 what
            comes after), and the number of depths, N + 2.
        """
        last = sum(self.depths) + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        part, *rest = param_name[len(prefix) :].split('.')
        if part in ('patch_embed', 'absolute_pos_embed'):
            return 0, last + 1
        if part != 'stages':
            return last, last + 1
        block = int(rest[2]) if rest[1] == 'blocks' else 0
        return sum(self.depths[: int(rest[0])]) + block + 1, last + 1

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # Every way of loading comes through here, mmengine's with strict=False too, and that one would train a
        # network that is half random without a word.
        if not prefix:  # by itself, from a checkpoint that may be a whole classifier's
            take_backbone(state_dict)
        check_same_form(state_dict, prefix, self.stages[0].blocks[0], self.name)
        check_state_dict(self, state_dict, prefix, f'{self.name}', tuple(self.out_norm_names.values()))
        super()._load_from_state_dict(state_dict, prefix, *args)


@contextlib.contextmanager
def _still_statistics(block: Block) -> Iterator[None]:
    """Keep the running statistics of BNs still while a checkpointed block runs a second time.

    With momentum 0 they are multiplied by exactly 1; only the counters have to be put back.
    """
    moving = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(m, m.momentum, m.num_batches_tracked.clone()) for m in moving]
    for module in moving:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum, batches in before:
            module.momentum = momentum
            module.num_batches_tracked.copy_(batches)


def _in_turn(mixer: str | dict | Sequence) -> tuple[str | dict, ...]:
    mixers = tuple(mixer) if isinstance(mixer, (list, tuple)) else (mixer,)
    if not mixers:
        raise ValueError('mixer must be a name, a dict or a list of those, got an empty list')
    return mixers


def _resized(embedding: Tensor, size: Sequence[int]) -> Tensor:
    """A (1, C, H, W) embedding for maps of another size."""
    if embedding.shape[2:] == tuple(size):
        return embedding
    return F.interpolate(embedding, tuple(size), mode='bicubic', align_corners=False)


def _checked_out_indices(out_indices: int | Sequence[int], stages: int) -> tuple[int, ...]:
    asked = tuple(out_indices) if isinstance(out_indices, Sequence) else (out_indices,)
    indices = [i + stages if isinstance(i, int) and i < 0 else i for i in asked]
    fits = indices and all(isinstance(i, int) and 0 <= i < stages for i in indices)
    if not fits or indices != sorted(set(indices)):
        raise ValueError(
            f'out_indices must be different stages in rising order, from 0 to {stages - 1} or from -{stages} to '
            f'-1, got {out_indices!r}'
        )
    return tuple(indices)
