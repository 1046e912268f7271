"""The nets with attention are Swin and DeiT: mmpretrain's, with their weights mapped across."""

import re

import pytest
import torch

import mmdwnet

mmpretrain_models = pytest.importorskip('mmpretrain.models')


def from_swin(state, merged_from_unfold=True):
    """mmpretrain's SwinTransformer -> ours. Its patch merging lists the four neighbours within every channel."""
    ours = {}
    for key, value in state.items():
        if key.endswith('relative_position_index'):
            continue
        key = re.sub(r'patch_embed\.projection', 'patch_embed.proj', key)
        merging = re.fullmatch(r'stages\.(\d)\.downsample\.(.*)', key)
        if merging:
            key = f'stages.{int(merging[1]) + 1}.downsample.{merging[2]}'
            # (..., C * 4): channel, then neighbours row by row -> neighbours column by column, then channel
            value = value.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)
        key = key.replace('.attn.w_msa.relative_position', '.mixer.position.relative_position')
        key = key.replace('.attn.w_msa.', '.mixer.').replace('.ffn.layers.0.0.', '.mlp.fc1.')
        key = key.replace('.ffn.layers.1.', '.mlp.fc2.')
        key = re.sub(r'^norm(\d)\.', r'norm_ln\1.', key)
        if key == 'absolute_pos_embed':
            side = int(value.shape[1] ** 0.5)
            value = value.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        ours[key] = value
    return ours


def from_vit(state):
    """mmpretrain's VisionTransformer -> ours."""
    ours = {}
    for key, value in state.items():
        key = key.replace('patch_embed.projection', 'patch_embed')
        key = re.sub(r'^layers\.(\d+)\.ln', r'blocks.\1.norm', key)
        key = re.sub(r'^layers\.(\d+)\.attn\.', r'blocks.\1.mixer.', key)
        key = re.sub(r'^layers\.(\d+)\.ffn\.layers\.0\.0', r'blocks.\1.mlp.fc1', key)
        key = re.sub(r'^layers\.(\d+)\.ffn\.layers\.1', r'blocks.\1.mlp.fc2', key)
        ours[re.sub(r'^ln1\.', 'norm.', key)] = value
    return ours


def randomise(net):
    """Values that leave nothing at its initial 0 or 1, of a size that keeps activations in range."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.dim() == 1 and name.endswith('weight')
            parameter.copy_(1 + 0.1 * noise if is_scale else noise * (0.02 if parameter.dim() > 1 else 0.1))
    net.eval()  # which returns None in mmpretrain
    return net


# 224: no padding, the last stage in one window; 250 x 190: padding in every stage, sides that merging rounds up
@pytest.mark.parametrize('size', [(224, 224), (250, 190 + 66)])
@pytest.mark.parametrize('arch', ['tiny', 'base'])
def test_the_pyramid_with_window_attention_is_swin(arch, size):
    theirs = mmpretrain_models.SwinTransformer(arch, out_indices=(0, 1, 2, 3), drop_path_rate=0.0)
    theirs = randomise(theirs)
    ours = mmdwnet.DWNet(f'swin-{arch}', out_indices=(0, 1, 2, 3)).eval()
    ours.load_state_dict(from_swin(theirs.state_dict()))
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, measured = theirs(image), ours(image)
    for theirs_out, out in zip(expected, measured, strict=True):
        torch.testing.assert_close(out, theirs_out, rtol=1e-5, atol=1e-5)


def test_swin_with_absolute_positions():
    theirs = randomise(mmpretrain_models.SwinTransformer('tiny', use_abs_pos_embed=True, drop_path_rate=0.0))
    ours = mmdwnet.DWNet('swin-tiny', absolute_position=True).eval()
    ours.load_state_dict(from_swin(theirs.state_dict()))
    for size in (224, 256):  # at 256 the embedding is resized
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(ours(image)[0], theirs(image)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', [(224, 224), (192, 272)])
@pytest.mark.parametrize('arch', ['deit-small', 'deit-base'])
def test_the_isotropic_net_with_global_attention_is_deit(arch, size):
    theirs = randomise(mmpretrain_models.VisionTransformer(arch))
    ours = mmdwnet.IsotropicNet(arch).eval()
    ours.load_state_dict(from_vit(theirs.state_dict()))
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[0], theirs(image)[0], rtol=1e-5, atol=1e-5)
