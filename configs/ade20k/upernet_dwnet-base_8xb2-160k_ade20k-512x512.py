r"""UPerNet, DWNet-B, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 48.3 (single scale), 108 M parameters, 1129 GFLOPs; not run here.
Starts from the weights that configs/imagenet/dwnet-base_16xb64_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_base_224.pth

    bash tools/dist_train.sh configs/ade20k/upernet_dwnet-base_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_dwnet-base_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_dwnet-base_8xb2-160k_ade20k-512x512/iter_160000.pth 8

The released weights, as they are:

    python tools/test.py configs/ade20k/upernet_dwnet-base_8xb2-160k_ade20k-512x512.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/upernet_dwnet_base.pth
"""

_base_ = './upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='base',
        init_cfg=dict(checkpoint='work_dirs/dwnet-base_16xb64_in1k/epoch_300.pth'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
