"""Names of models: which config a name stands for, its task, and the weights that are published for it.

Everything is read from the config tree and the metafiles that ship with the package, so a config that is added is
a name at once. The name of a config is its file's, without suffix. A short name is that of a backbone, and stands
for one config a task:

    cls    configs/imagenet/NAME_*_in1k.py, trained on ImageNet-1K alone
    det    configs/coco/cascade-mask-rcnn_NAME_fpn_ms-3x_coco.py
    seg    configs/ade20k/upernet_NAME_*_ade20k-512x512.py, from an ImageNet-1K backbone

and, for the nano nets, the config of the mini dataset.
"""

from __future__ import annotations

import difflib
import functools
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml
from mmengine.infer import BaseInferencer
from torch import nn

from .errors import UserError

OFFICIAL = 'official'  # in place of a file of weights
# where the configs of a task lie below configs/, and in which of them the backbone's name stands for the config
TREES = (
    ('cls', r'imagenet(22k)?/.*', r'imagenet/(?P<short>[^_/]+)_\d+xb[^_]+_in1k'),
    ('det', r'coco/.*', r'coco/cascade-mask-rcnn_(?P<short>[^_]+)_fpn_ms-3x_coco'),
    ('seg', r'ade20k/.*', r'ade20k/upernet_(?P<short>[^_]+)_\d+xb\d+-160k_ade20k-512x512'),
    ('cls', r'mini/.*_cls_mini', r'mini/(?P<short>[^_]+)_cls_mini'),
    ('det', r'mini/.*_mask-rcnn_mini', r'mini/(?P<short>[^_]+)_mask-rcnn_mini'),
    ('seg', r'mini/.*_upernet_mini', r'mini/(?P<short>[^_]+)_upernet_mini'),
)
TASKS = ('cls', 'det', 'seg')


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: of the config file, without suffix.
        config: the file.
        task: 'cls', 'det' or 'seg'; None of a config that is not of this package, whose task the file says.
        short: the name of its backbone, if that stands for this config.
        weights: URL of the published ones, if there are any.
    """

    name: str
    config: Path
    task: str | None = None
    short: str | None = None
    weights: str | None = None


def list_models(task: str | None = None) -> list[str]:
    """The names that `load_model` knows, short ones first.

    Args:
        task: 'cls', 'det' or 'seg'; None for all.

    Raises:
        UserError: another task.
    """
    _check_task(task)
    entries = [entry for entry in _entries() if task in (None, entry.task)]
    return [*sorted({entry.short for entry in entries if entry.short}), *sorted(entry.name for entry in entries)]


def find_model(name: str, task: str | None = None) -> Entry:
    """Find what a name stands for.

    Args:
        name: short name, name of a config, or path of a config file.
        task: 'cls', 'det' or 'seg', for which of them a short name is meant; None is 'cls', or the only one there
            is.

    Raises:
        UserError: there is no such model; the nearest name is suggested.
    """
    _check_task(task)
    if name.endswith('.py'):
        return _of_file(name, task)
    found = [entry for entry in _entries() if entry.name == name]
    found = found or sorted((e for e in _entries() if e.short == name), key=lambda e: TASKS.index(e.task))
    fitting = [entry for entry in found if task in (None, entry.task)]
    if fitting:
        return fitting[0]
    if found:
        raise UserError(
            f'model {name} is there for {", ".join(entry.task for entry in found)} and not for {task}; '
            f'{_nearest(name, list_models(task), f"for {task}")}'
        )
    raise UserError(f'no model is called {name!r}: {_nearest(name, list_models(task))}')


def load_model(
    name: str, task: str | None = None, weights: str | None = None, device: str = 'cpu', trust: bool = False
) -> nn.Module:
    """Build a whole classifier, detector or segmentor, in eval mode.

    It is what `mmpretrain.get_model`, `mmdet.apis.init_detector` and `mmseg.apis.init_model` return, with the same
    attributes (`cfg`, `dataset_meta`; of a classifier also `_config`, `_dataset_meta`), so
    `ImageClassificationInferencer`, `inference_detector` and mmseg's `inference_model` take it.

    Args:
        name: short name such as 'dwnet-tiny', name of a config, or path of a config file; `list_models` has all.
        task: 'cls', 'det' or 'seg', for which of them a short name is meant; None is 'cls', or the only one there
            is.
        weights: path or URL of a checkpoint, in our layout or the official one; 'official' for the published ones
            of this model, which are downloaded once; None for none: the model is as initialised, and predicts
            nothing of use before it is trained.
        device: where it is put.
        trust: unpickle a checkpoint that needs it, which executes code from it.

    Raises:
        UserError: no such model, device or file, a library is missing, or the weights do not fit; one line.
    """
    from .engine.models import load_whole_model

    entry = find_model(name, task)
    if weights == OFFICIAL:
        weights = official_weights(entry)
    return load_whole_model(str(entry.config), weights, device, task=task, trust=trust)[1]


def official_weights(entry: Entry) -> str:
    """The URL of the published weights of a model.

    Raises:
        UserError: there are none.
    """
    if entry.weights is None:
        others = sorted(e.short or e.name for e in _entries() if e.weights and entry.task in (None, e.task))
        raise UserError(
            f'there are no published weights of {entry.name}: give a file of your own (of this task there are '
            f'those of {", ".join(others)})'
        )
    return entry.weights


def register_models() -> None:
    """Make the names known to the inferencers of mmpretrain, mmdet and mmseg, as if they were the libraries' own.

    `ImageClassificationInferencer` and `mmpretrain.get_model` then take the names for 'cls', `DetInferencer` those
    for 'det' and `MMSegInferencer` those for 'seg', short ones too. Where a library has a name itself it keeps it:
    those of our Swin-T and Swin-B classifiers, which are 'swin-tiny' and 'swin-base' then.
    """
    if find_spec('mmpretrain'):
        _register_in_mmpretrain()
    _register_in_mmengine()


def _register_in_mmpretrain() -> None:
    import mmpretrain
    from mmpretrain.apis import ModelHub

    known, models = set(mmpretrain.list_models()), []
    for entry in _entries():
        for name in (entry.short, entry.name):
            if entry.task == 'cls' and name and name not in known:
                results = [dict(Task='Image Classification', Dataset='ImageNet-1K')]
                models.append(dict(Name=name, Config=str(entry.config), Weights=entry.weights, Results=results))
    if models:
        with tempfile.TemporaryDirectory() as folder:  # mmpretrain reads files only
            index = Path(folder, 'model-index.yml')
            index.write_text(yaml.safe_dump(dict(Models=models)), encoding='utf-8')
            ModelHub.register_model_index(index)


def _register_in_mmengine() -> None:
    """Put our names behind those that mmengine finds for mmdet and mmseg; it has no public way to add any.

    The other way that it offers, `scope='mmdwnet'`, finds the names but not the transforms of mmdet and mmseg.
    """
    stock = BaseInferencer._get_models_from_metafile
    if stock.__module__ == __name__:
        return  # they are there

    def models_of(folder: str) -> Iterator[dict]:
        yield from stock(folder)
        yield from _metafile_beside(Path(folder))

    BaseInferencer._get_models_from_metafile = staticmethod(models_of)


def _metafile_beside(folder: Path) -> Iterator[dict]:
    """Our models of the task of an OpenMMLab library, whose configs lie in that folder, as a metafile has them."""
    for library, task in (('mmdet', 'det'), ('mmseg', 'seg')):
        if folder.parent.name == library or (folder / library).is_dir():
            for entry in _entries():
                if entry.task == task:
                    names = dict(Name=entry.name, Alias=[entry.short] if entry.short else [])
                    yield dict(names, Config=str(entry.config), Weights=entry.weights)


@functools.cache
def package_root() -> Path:
    """The folder that holds `configs/` and `model-index.yml`: the checkout, or `.mim` in an installed package.

    Raises:
        UserError: there is none.
    """
    package = Path(__file__).resolve().parent
    for root in (package.parent, package / '.mim'):
        if (root / 'configs').is_dir() and (root / 'model-index.yml').is_file():
            return root
    raise UserError(f'{package} has no configs: expected an installed mmdwnet or a checkout; install it anew')


@functools.cache
def _entries() -> tuple[Entry, ...]:
    root, weights = package_root(), {}
    for metafile in _read(root / 'model-index.yml')['Import']:
        for model in _read(root / metafile)['Models']:
            weights[model['Config']] = model.get('Weights')
    entries = []
    for path in sorted((root / 'configs').rglob('*.py')):
        place = path.relative_to(root).with_suffix('').as_posix().removeprefix('configs/')
        for task, tree, shortened in TREES:
            if re.fullmatch(tree, place):
                match = re.fullmatch(shortened, place)
                short = match['short'] if match else None
                url = weights.get(path.relative_to(root).as_posix())
                entries.append(Entry(path.stem, path, task, short, url))
    return tuple(entries)


def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def _of_file(name: str, task: str | None) -> Entry:
    path = Path(name)
    if not path.is_file():
        stem = path.stem
        raise UserError(f'config {name} not found; {_nearest(stem, list_models(task), "by its name")}')
    known = {entry.config.resolve(): entry for entry in _entries()}
    return known.get(path.resolve()) or Entry(path.stem, path)


def _check_task(task: str | None) -> None:
    if task is not None and task not in TASKS:
        raise UserError(f'task {task!r}: {_nearest(task, TASKS)}')


def _nearest(name: str, names: Sequence[str], where: str = '') -> str:
    """What else could have been meant, in words."""
    spelled = {known.replace('_', '-'): known for known in names}  # timm's names have underscores
    near = difflib.get_close_matches(name.lower().replace('_', '-'), spelled, 1)
    if near:
        return f"did you mean '{spelled[near[0]]}'{where and f' {where}'}?"
    more = ', ... (mmdwnet.list_models() has all)' if len(names) > 12 else ''
    return f'expected one of {", ".join(names[:12])}{more}'
