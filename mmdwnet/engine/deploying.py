"""Fold the BNs of a trained model's backbone and write it as a checkpoint and a config that belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..checkpoints.converting import KEPT_META
from ..checkpoints.writing import check_target, write_atomically
from ..errors import UserError
from .models import largest_difference, load_dwnet_model, random_images

TOLERANCE = 1e-4  # of the largest value of an output


def deploy_checkpoint(
    config: str,
    source: str,
    target: str,
    overrides: dict[str, Any] | None = None,
    trust: bool = False,
    force: bool = False,
) -> float:
    """Write a trained model's checkpoint anew, its DWNet deployed, and its config beside it, under the same name.

    Both hold everything that a run needs: the config is whole, inherits from no other file and has
    `deploy=True`, and the checkpoint holds it too, where the inferencers of OpenMMLab look for it.

    Args:
        config: of the model.
        source: its checkpoint, path or URL.
        target: file to write, a .pth.
        overrides: of the config, as in training.
        trust: unpickle a source that needs it, which executes code from it.
        force: overwrite the target and the config beside it.

    Returns:
        The largest difference of an output of the backbone, on random images of an odd size, relative to the
        largest value of that output.

    Raises:
        UserError: something does not fit, or the deployed backbone differs by more than 1e-4.
    """
    path = check_target(target, '.pth', (source,), force)
    config_path = check_target(path.with_suffix('.py'), '.py', (config,), force)
    cfg, model, meta = load_dwnet_model(config, source, overrides, trust)
    backbone = model.backbone
    if backbone.deploy:
        raise UserError(f'{config} has deploy=True, so {source} is deployed already: nothing to do')
    images = random_images(backbone.patch_embed.proj.in_channels, 2, 93, 130)
    with torch.no_grad():
        expected = backbone(images)
        difference = largest_difference(expected, backbone.switch_to_deploy()(images))
    if not difference <= TOLERANCE:  # nan too
        raise UserError(
            f'{source}: deployed, its backbone differs by {difference:.1e} of its outputs, more than {TOLERANCE}: '
            'nothing was written; its BN statistics are perhaps broken (nan, or variances near 0)'
        )
    cfg.model.backbone.update(deploy=True, init_cfg=None)
    text = f'# {Path(config).name} with {Path(source).name}, deployed\n{cfg.pretty_text}'
    meta = {**{key: value for key, value in meta.items() if key in KEPT_META}, 'cfg': cfg.pretty_text}
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    write_atomically(path, lambda file: torch.save(dict(meta=meta, state_dict=weights), file))
    write_atomically(config_path, lambda file: file.write_text(text, encoding='utf-8'))
    return difference
