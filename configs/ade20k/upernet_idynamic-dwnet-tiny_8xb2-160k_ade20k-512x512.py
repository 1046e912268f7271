r"""UPerNet, I-dynamic DWNet-T, 160k iterations on ADE20K: 8 GPUs x 2 crops of 512x512, no AMP.

Paper: mIoU 46.2 (single scale), 58 M parameters, 939 GFLOPs; not run here.
Starts from the weights that configs/imagenet/idynamic-dwnet-tiny_8xb64-accum2_in1k.py trains;
others: `--cfg-options model.backbone.init_cfg.checkpoint=FILE`.
No source gives downstream settings of I-dynamic DWNet: these are the static one's.
There are no released weights of I-dynamic DWNet.

    bash tools/dist_train.sh configs/ade20k/upernet_idynamic-dwnet-tiny_8xb2-160k_ade20k-512x512.py 8
    bash tools/dist_test.sh configs/ade20k/upernet_idynamic-dwnet-tiny_8xb2-160k_ade20k-512x512.py \
        work_dirs/upernet_idynamic-dwnet-tiny_8xb2-160k_ade20k-512x512/iter_160000.pth 8
"""

_base_ = './upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        mixer='InhomogeneousDynamicDepthwiseConv',
        init_cfg=dict(checkpoint='work_dirs/idynamic-dwnet-tiny_8xb64-accum2_in1k/epoch_300.pth'),
    )
)
