"""Gradients that live in the messages that send them: one copy of all gradients less in the memory of a GPU.

An addition to any config that has no `model_wrapper_cfg`, through a file of your own:

    _base_ = ['../imagenet/dynamic-dwnet-base_16xb64_in1k.py', '../_base_/scale/ddp.py']

Or on the command line: `--cfg-options model_wrapper_cfg.gradient_as_bucket_view=True`. Results stay the same. The
messages stay those of torch, of 25 MiB; larger ones made nothing faster: docs/scale.md.
"""

model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,  # what mmengine chooses by itself; a stock tool would else get torch's True
    gradient_as_bucket_view=True,
)
