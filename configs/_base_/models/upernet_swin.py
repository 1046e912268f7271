"""UPerNet with a Swin-T backbone on ADE20K's 150 classes and 512x512 crops: mmseg's own base."""

_base_ = ['../mmseg_package.py', 'mmseg::_base_/models/upernet_swin.py']

data_preprocessor = dict(size=(512, 512))
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
