r"""UPerNet, DWNet-T, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 45.5 (single scale), 56 M parameters, 928 GFLOPs; not run here.
Starts from the weights that configs/imagenet/dwnet-tiny_8xb128_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`, such as the released
https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/dwnet_tiny_224.pth

    bash tools/dist_train.sh configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512/iter_160000.pth 8

The released weights, as they are:

    python tools/test.py configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py \
        https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/upernet_dwnet_tiny.pth
"""

_base_ = [
    '../_base_/models/upernet_dwnet.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_160k.py',
    '../_base_/default_runtime_seg.py',
]
