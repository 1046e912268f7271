r"""UPerNet, dynamic DWNet-B from ImageNet-22K, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 49.6 (single scale), 195 M parameters, 1129 GFLOPs; not run here.
Only the weights that it starts from differ from the config without in22k-pre. No source tells whether
the paper's started from the 22K weights or from those fine-tuned on 1K: as in Swin, from 22K here.
Starts from the weights that configs/imagenet22k/dynamic-dwnet-base_8xb64-accum8_in22k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.

    bash tools/dist_train.sh configs/ade20k/upernet_dynamic-dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_dynamic-dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_dynamic-dwnet-base_in22k-pre_8xb2-160k_ade20k-512x512/iter_160000.pth 8
"""

_base_ = './upernet_dynamic-dwnet-base_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/dynamic-dwnet-base_8xb64-accum8_in22k/epoch_90.pth'))
)
