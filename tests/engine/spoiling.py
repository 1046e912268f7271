"""Ways to spoil a copy of the mini dataset, for the tests of this folder."""

import json

from mmengine.registry import DATASETS

from mmdwnet.engine.config import load_config

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
LAYOUT = {CLS: 'imagenet', DET: 'coco', SEG: 'ade'}
INSTANCES = 'coco/annotations/instances_train2017.json'


def config_of(config, data, **overrides):
    return load_config(config, {'data_root': str(data / LAYOUT[config]), **overrides})


def dataset_of(config, data, split='train'):
    return DATASETS.build(config_of(config, data)[f'{split}_dataloader'].dataset)


def cut(path, part=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def edit(data, change, file=INSTANCES):
    coco = json.loads((data / file).read_text())
    change(coco)
    (data / file).write_text(json.dumps(coco))


def first_of(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())[0]
