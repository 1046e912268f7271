"""ImageNet-1K at 224x224 with mmpretrain's Swin pipelines, which equal the official ones.

RandAugment m9 std 0.5, random erasing 0.25, bicubic crops; test: short side 256, centre crop 224.
The per-GPU batch is 64 here. The last partial batch is dropped, as in the official loader: it also
keeps a batch of one image away from the BN of the dynamic mixers.

ReaL accuracy stands beside top-1 and top-5, and is off until it is given the published labels:
`--cfg-options test_evaluator.1.labels=data/imagenet/real.json` (val_evaluator while training).
"""

_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

data_root = 'data/imagenet'
train_dataloader = dict(num_workers=8, drop_last=True, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=8, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=8, dataset=dict(data_root=data_root))
val_evaluator = [dict(type='mmpretrain.Accuracy', topk=(1, 5)), dict(type='mmdwnet.ReaLAccuracy', labels=None)]
test_evaluator = val_evaluator
