"""Write the config of a fine-tuning: a dozen settings over bases of this package, to be read and edited."""

from __future__ import annotations

from typing import Any

from ...backbones.archs import pyramid_arch
from .choosing import Choices
from .own_data import OwnData, Split, counted

# the bases below configs/_base_/finetune/, of DWNet-T; those of DWNet-nano have its name
BASES = {'cls': 'cls_dwnet', 'det': 'mask-rcnn_dwnet', 'boxes': 'faster-rcnn_dwnet', 'seg': 'upernet_dwnet'}
USES = {'train': 'to train on', 'val': 'to validate with', 'test': 'to test with'}
INLINE = 20  # so many classes stand in the config; more go into a file beside it
CLASSES_FILE = 'classes.txt'
HERE = '{{ fileDirname }}'  # mmengine puts the folder of the config in its place
WIDTH = 115


class Code(str):
    """An expression in a config, where another string is text."""


class Derived(dict):
    """A dict that is another one, by its name, with some entries of its own."""

    def __init__(self, name: str, **entries: Any):
        super().__init__(**entries)
        self.name = name


def config_text(data: OwnData, choices: Choices) -> str:
    """The text of the config.

    Args:
        data: with a train and a val split.
        choices: for it.
    """
    base = BASES['boxes' if data.task == 'det' and not data.masks else data.task] + '-nano' * choices.small
    parts = dict(cls=_classifier, det=_detector, seg=_segmentor)[data.task]
    model, pipelines = parts(data, choices)
    backbone = _backbone(data, choices)
    settings = dict(
        data_root=str(data.root),
        metainfo=dict(classes=_classes(data)),
        **_numbers(data, choices),
        model={**(dict(backbone=backbone) if backbone else {}), **model},
        **pipelines,
        **_loaders(data, choices),
        **_evaluators(data),
        **_schedule(data, choices),
    )
    text = f'"""{_headline(data, choices)}\n\nWritten by tools/finetune.py, to be read and edited.\n"""\n\n'
    text += f"_base_ = __import__('mmdwnet') and 'mmdwnet::_base_/finetune/{base}.py'\n\n"
    return text + ''.join(f'{name} = {_shown(value, 0, len(name) + 3)}\n' for name, value in settings.items())


def classes_text(data: OwnData) -> str | None:
    """The text of the file of classes; None if the config names them itself."""
    named = len(data.classes) <= INLINE or data.classes == _numbered(len(data.classes))
    return None if named else ''.join(f'{name}\n' for name in data.classes)


def _headline(data: OwnData, choices: Choices) -> str:
    what = {'cls': 'tells images apart', 'det': 'detects objects', 'seg': 'segments images'}[data.task]
    counts = ', '.join(
        f'{counted(len(data.splits[split].samples), "image")} {use}'
        for split, use in USES.items()
        if split in data.splits
    )
    name = ''.join(c for c in data.root.name if c.isprintable() and c not in '"\\{}')
    return f'{choices.model} {what}: {name}, {counted(len(data.classes), "class")}, {counts}.'


def _classes(data: OwnData) -> Any:
    if classes_text(data) is not None:
        return Code(f"tuple(open('{HERE}/{CLASSES_FILE}', encoding='utf-8').read().splitlines())")
    if len(data.classes) > INLINE:
        return Code(f"tuple(f'class_{{number}}' for number in range({len(data.classes)}))")
    return data.classes


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f'class_{number}' for number in range(classes))


def _numbers(data: OwnData, choices: Choices) -> dict[str, Any]:
    """The variables that `--cfg-options` carries to where they are used."""
    numbers = dict(num_classes=len(data.classes), scale=choices.scale)
    if data.task == 'seg':
        numbers['crop_size'] = (choices.crop, choices.crop)
    numbers['max_iters' if data.task == 'seg' else 'max_epochs'] = choices.length
    return numbers


def _schedule(data: OwnData, choices: Choices) -> dict[str, Any]:
    length = 'max_iters' if data.task == 'seg' else 'max_epochs'
    warm_up = max(round(0.05 * choices.length), 1)
    cosine = f'dict(_base_.cosine, T_max={length}, end={length})'
    return dict(
        optim_wrapper=dict(optimizer=dict(lr=choices.lr)),
        param_scheduler=Code(f'[dict(_base_.warm_up, end={warm_up}), {cosine}]'),
        train_cfg={length: Code(length), 'val_interval': choices.val_interval},
    )


def _backbone(data: OwnData, choices: Choices) -> dict[str, Any]:
    """The settings of the backbone that are not those of the base."""
    base = dict(arch='nano' if choices.small else 'tiny', mixer='DepthwiseConv')
    settings = {key: value for key, value in choices.backbone.items() if value != base[key]}
    if choices.weights is not None:
        # detectors and segmentors have None there, into which nothing can be merged
        fresh = dict(_delete_=True) if data.task != 'cls' else {}
        source = dict(type='Pretrained', checkpoint=choices.weights, prefix='backbone.')
        settings['init_cfg'] = {**fresh, **source}
    return settings


def _channels(choices: Choices) -> list[int] | None:
    """The channels of the maps of the backbone, where they are not those that the base is made for."""
    sizes = pyramid_arch(choices.backbone['arch'])
    if sizes.embed_dims == (32 if choices.small else 96):
        return None
    return [sizes.embed_dims * 2**i for i in range(len(sizes.depths))]


def _classifier(data: OwnData, choices: Choices) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the model's heads, and the pipelines."""
    channels = _channels(choices)
    head = dict(num_classes=Code('num_classes'), **(dict(in_channels=channels[-1]) if channels else {}))
    crop = Code("dict(type='RandomResizedCrop', scale=scale, crop_ratio_range=(0.4, 1.0))")
    resize = Code("dict(type='Resize', scale=scale)")
    return dict(head=head), dict(
        train_pipeline=[Code('_base_.load_image'), crop, Code('*_base_.finish')],
        test_pipeline=[Code('_base_.load_image'), resize, Code('_base_.pack')],
    )


def _detector(data: OwnData, choices: Choices) -> tuple[dict[str, Any], dict[str, Any]]:
    """As above."""
    model: dict[str, Any] = dict(roi_head=dict(bbox_head=dict(num_classes=Code('num_classes'))))
    if data.masks:
        model['roi_head']['mask_head'] = dict(num_classes=Code('num_classes'))
    channels = _channels(choices)
    if channels:
        model['neck'] = dict(in_channels=channels)
    if choices.anchor_scale is not None:
        model['rpn_head'] = dict(anchor_generator=dict(scales=[choices.anchor_scale]))
    resize = Code("dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True)")
    return model, dict(
        train_pipeline=[Code('*_base_.load'), resize, Code('*_base_.finish')],
        test_pipeline=_test_pipeline('load_objects'),
    )


def _segmentor(data: OwnData, choices: Choices) -> tuple[dict[str, Any], dict[str, Any]]:
    """As above."""
    heads = [dict(num_classes=Code('num_classes')) for _ in range(2)]
    channels = _channels(choices)
    if channels:
        heads[0]['in_channels'], heads[1]['in_channels'] = channels, channels[2]
    resize = Code("dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True)")
    crop = Code("dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)")
    model = dict(data_preprocessor=dict(size=Code('crop_size')), decode_head=heads[0], auxiliary_head=heads[1])
    return model, dict(
        train_pipeline=[Code('*_base_.load'), resize, crop, Code('*_base_.finish')],
        test_pipeline=_test_pipeline('load_labels'),
    )


def _test_pipeline(annotations: str) -> list[Code]:
    """The image is resized before the annotations are there, for these are compared in the size of the file."""
    resize = "dict(type='Resize', scale=scale, keep_ratio=True)"
    return [Code(part) for part in ('_base_.load_image', resize, f'_base_.{annotations}', '_base_.pack')]


def _loaders(data: OwnData, choices: Choices) -> dict[str, Any]:
    """The data sets and data loaders of all splits."""
    sets, loaders = {}, {}
    for name, split in data.splits.items():
        where = dict(cls=_of_folders, det=_of_json, seg=_of_maps)[data.task](data, split)
        if name == 'train':
            common = dict(data_root=Code('data_root'), metainfo=Code('metainfo'), **where)
            sets['train_set'] = dict(**common, pipeline=Code('train_pipeline'))
        else:
            differs = {key: value for key, value in where.items() if value != common[key]}
            sets[f'{name}_set'] = Derived('train_set', **differs, pipeline=Code('test_pipeline'))
        batch = dict(batch_size=choices.batch_size) if name == 'train' else {}
        loaders[f'{name}_dataloader'] = dict(**batch, dataset=Code(f'{name}_set'))
    if 'test' not in data.splits:
        loaders['test_dataloader'] = Code('val_dataloader')
    return {**sets, **loaders}


def _evaluators(data: OwnData) -> dict[str, Any]:
    """What the evaluators of a detector read; the others need nothing."""
    if data.task != 'det':
        return {}
    files = {f'{name}_evaluator': dict(ann_file=_annotations(split)) for name, split in data.splits.items()}
    del files['train_evaluator']
    if 'test' not in data.splits:
        files['test_evaluator'] = Code('val_evaluator')
    return files


def _annotations(split: Split) -> Any:
    """The file of annotations, for what does not join it to `data_root` itself."""
    return f'{HERE}/{split.listed}' if split.listed else Code(f'data_root + {"/" + split.annotations!r}')


def _of_folders(data: OwnData, split: Split) -> dict[str, Any]:
    listed = dict(ann_file=f'{HERE}/{split.listed}') if split.listed else {}
    return dict(data_prefix=split.images, **listed)


def _of_json(data: OwnData, split: Split) -> dict[str, Any]:
    file = f'{HERE}/{split.listed}' if split.listed else split.annotations
    return dict(ann_file=file, data_prefix=dict(img=f'{split.images}/' if split.images else ''))


def _of_maps(data: OwnData, split: Split) -> dict[str, Any]:
    options = dict(img_suffix=data.suffixes[0], seg_map_suffix=data.suffixes[1])
    if data.zero_is_no_class:
        options['reduce_zero_label'] = True
    if split.listed:
        options['ann_file'] = f'{HERE}/{split.listed}'
    return dict(data_prefix=dict(img_path=split.images, seg_map_path=split.annotations), **options)


def _shown(value: Any, indent: int, before: int) -> str:
    """A value as code, on as few lines as it takes."""
    flat = _flat(value)
    if indent + before + len(flat) + 1 <= WIDTH or isinstance(value, (str, int, float)):
        return flat
    inside, outside = ' ' * (indent + 4), ' ' * indent
    if isinstance(value, dict):
        items = ((key, _shown(item, indent + 4, len(key) + 1)) for key, item in value.items())
        lines = [f'{inside}{value.name},\n'] if isinstance(value, Derived) else []
        lines += [f'{inside}{key}={item},\n' for key, item in items]
        return f'dict(\n{"".join(lines)}{outside})'
    first, last = '[]' if isinstance(value, list) else '()'
    return f'{first}\n' + ''.join(f'{inside}{_flat(item)},\n' for item in value) + f'{outside}{last}'


def _flat(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, dict):
        parts = [value.name] if isinstance(value, Derived) else []
        return f'dict({", ".join([*parts, *(f"{key}={_flat(item)}" for key, item in value.items())])})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    return repr(value)
