"""Gradients in fewer and larger messages, and in their messages' memory: for training on several nodes.

An addition to any config that has no `model_wrapper_cfg`, through a file of your own:

    _base_ = ['../imagenet/dynamic-dwnet-base_16xb64_in1k.py', '../_base_/scale/ddp.py']

Or on the command line: `--cfg-options model_wrapper_cfg.bucket_cap_mb=100`. Results stay the same but for the
order of sums. docs/scale.md says when it helps.
"""

model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,  # what mmengine chooses by itself; a stock tool would else get torch's True
    gradient_as_bucket_view=True,  # saves a copy of all gradients
    bucket_cap_mb=100,
)
