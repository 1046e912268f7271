r"""Local MLP (Swin-nano, its weights learned) classifies the mini dataset: minutes on two CPU cores.

Not run to the end. After two minutes of training on two CPU cores (compare_mixers.py), one run: top-1 55.0.

python tools/train.py configs/mini/local-mlp-nano_cls_mini.py
python tools/test.py configs/mini/local-mlp-nano_cls_mini.py \
    work_dirs/local-mlp-nano_cls_mini/epoch_40.pth
"""

_base_ = './swin-nano_cls_mini.py'

model = dict(backbone=dict(mixer=[dict(type='LocalMlp'), dict(type='LocalMlp', shift=True)]))
