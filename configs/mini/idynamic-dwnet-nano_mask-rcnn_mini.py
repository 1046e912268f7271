r"""I-dynamic DWNet-nano (one kernel per position) in Mask R-CNN on the mini dataset: minutes on two CPU cores.

Not run to the end; a test runs one loss and one prediction.

python tools/train.py configs/mini/idynamic-dwnet-nano_mask-rcnn_mini.py
python tools/test.py configs/mini/idynamic-dwnet-nano_mask-rcnn_mini.py \
    work_dirs/idynamic-dwnet-nano_mask-rcnn_mini/epoch_8.pth
"""

_base_ = './dwnet-nano_mask-rcnn_mini.py'

model = dict(backbone=dict(mixer='InhomogeneousDynamicDepthwiseConv'))
