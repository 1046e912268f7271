"""ADE20K with 512x512 crops and 2 images per GPU: mmseg's pipelines, which are the official ones."""

_base_ = ['../mmseg_package.py', 'mmseg::_base_/datasets/ade20k.py']

train_dataloader = dict(batch_size=2)
