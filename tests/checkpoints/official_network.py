"""The official network as a function of an official state dict, for sizes and modes without reference outputs.

Written from the description of its layers, on its own key names, with none of the package's modules; that it is
the official network is checked against the reference outputs.
"""

import torch
import torch.nn.functional as F


def official_network(state, images, downstream):
    """Logits (B, classes), or with `downstream` the four maps behind `norm0` to `norm3`.

    Args:
        state: official state dict without prefix.
        images: (B, 3, H, W).
        downstream: pad every mixer's input to multiples of 7, as the detection and segmentation forks do.
    """
    x = _padded(images, 4)
    x = F.conv2d(x, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], stride=4)
    x = _layer_norm(state, 'patch_embed.norm', x)
    stages = 1 + max(int(key.split('.')[1]) for key in state if key.startswith('layers.'))
    maps = []
    for i in range(stages):
        for j in range(1 + max(int(key.split('.')[3]) for key in state if key.startswith(f'layers.{i}.blocks.'))):
            block = f'layers.{i}.blocks.{j}'
            height, width = x.shape[2:]
            padded = _padded(x, 7) if downstream else x
            x = x + _mixer(state, f'{block}.attn2conv', padded)[:, :, :height, :width]
            x = x + _mlp(state, f'{block}.mlp', _bn(state, f'{block}.bn', x))
        if downstream:
            maps.append(_bn(state, f'norm{i}', x))
        if i < stages - 1:
            x = _merge(state, f'layers.{i}.downsample', x)
    if downstream:
        return maps
    pooled = _layer_norm(state, 'norm', x).mean((2, 3))
    return F.linear(pooled, state['head.weight'], state['head.bias'])


def _mixer(state, name, x):
    x = F.relu(_bn(state, f'{name}.bn0', F.conv2d(x, state[f'{name}.conv0.weight'])))
    x = F.relu(_bn(state, f'{name}.bn', _depthwise(state, f'{name}.conv', x)))
    return _bn(state, f'{name}.bn2', F.conv2d(x, state[f'{name}.conv2.weight']))


def _depthwise(state, name, x):
    b, c, h, w = x.shape
    if f'{name}.weight' in state:  # static
        return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], padding=3, groups=c)
    if f'{name}.conv1.weight' in state:  # one kernel per image and channel
        hidden = F.conv2d(x.mean((2, 3), keepdim=True), state[f'{name}.conv1.weight'])
        hidden = F.relu(_bn(state, f'{name}.bn', hidden))
        kernels = F.conv2d(hidden, state[f'{name}.conv2.weight'], state[f'{name}.conv2.bias']).view(b * c, 1, 7, 7)
        out = F.conv2d(x.reshape(1, b * c, h, w), kernels, padding=3, groups=b * c).view(b, c, h, w)
        return out + state[f'{name}.bias'].view(1, c, 1, 1)
    hidden = F.conv2d(x, state[f'{name}.conv1.0.weight'], state[f'{name}.conv1.0.bias'])
    hidden = F.relu(_bn(state, f'{name}.conv1.1', hidden))
    kernels = F.conv2d(hidden, state[f'{name}.conv2.0.weight'], state[f'{name}.conv2.0.bias'])
    groups = kernels.shape[1] // 49  # channel c has the kernels of group c // (C / groups)
    kernels = kernels.view(b, groups, 1, 49, h, w)
    neighbours = F.unfold(x, 7, padding=3).view(b, groups, c // groups, 49, h, w)
    return (kernels * neighbours).sum(3).view(b, c, h, w)


def _mlp(state, name, x):
    x = F.linear(x.permute(0, 2, 3, 1), state[f'{name}.fc1.weight'], state[f'{name}.fc1.bias'])
    return F.linear(F.gelu(x), state[f'{name}.fc2.weight'], state[f'{name}.fc2.bias']).permute(0, 3, 1, 2)


def _merge(state, name, x):
    x = _padded(x, 2)
    x = torch.cat([x[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], 1)
    x = _layer_norm(state, f'{name}.norm', x)
    return F.conv2d(x, state[f'{name}.reduction.weight'][:, :, None, None])


def _bn(state, name, x):
    mean, var, weight, bias = (
        state[f'{name}.{leaf}'] for leaf in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def _layer_norm(state, name, x):
    x = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], state[f'{name}.weight'], state[f'{name}.bias'])
    return x.permute(0, 3, 1, 2)


def _padded(x, multiple):
    return F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple))
