"""Deterministic weights under the official DWNet checkpoint layout.

`official_state_dict(spec)` turns a list of `[key, shape]` pairs (one of the
`*.keys.json` files beside this module: the exact keys and shapes of an official
`.pth` checkpoint's `model` entry) into a float32 state dict. Every value depends on its
key alone, so the same checkpoint can be rebuilt anywhere without shipping it.

`reference_input(batch, height, width)` is the float32 NCHW image batch that the
`*.golden.npz` files beside this module were computed from: outputs of the official
network, in float32 on the CPU, holding exactly these weights.
"""

import zlib

import numpy as np
import torch


def _values(key: str, shape: list[int]) -> np.ndarray:
    normal = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape or [1])
    leaf = key.rsplit('.', 1)[-1]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, np.int64)
    if leaf == 'running_var':
        return np.exp(0.1 * normal)
    if leaf in ('bias', 'running_mean'):
        return 0.1 * normal
    if len(shape) == 1:  # scale of a norm layer
        return 1 + 0.1 * normal
    values = normal / np.sqrt(np.prod(shape[1:]))  # unit gain: 1 / sqrt(fan_in)
    if '.attn2conv.' in key:  # keep the residual branches, quadratic where dynamic, small
        values *= 0.02 if '.conv.conv2.' in key else 0.5
    return values


def official_state_dict(spec: list) -> dict[str, torch.Tensor]:
    state = {}
    for key, shape in spec:
        values = _values(key, shape)
        dtype = torch.int64 if values.dtype == np.int64 else torch.float32
        state[key] = torch.as_tensor(values, dtype=dtype).reshape(shape)
    return state


def reference_input(batch: int, height: int, width: int) -> torch.Tensor:
    values = np.random.RandomState(20220125).standard_normal((batch, 3, height, width))
    return torch.as_tensor(values, dtype=torch.float32)
