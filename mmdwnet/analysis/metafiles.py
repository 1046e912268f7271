"""model-index.yml, configs/*/metafile.yml and the tables of the documentation, all written from one measurement.

The form is that of OpenMMLab. `Metadata` holds what was counted here. The papers' numbers stand under `Published`,
a key of this project's own, per source; `Results` names task and dataset and has no metrics, for no checkpoint of
these configs was scored here. `Weights` are the released ones of the official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

import mmdwnet

from ..errors import UserError
from .published import METRICS, Row, Table, load_sources
from .tables import Measured, named_values

TREES = ('imagenet', 'imagenet/ablation', 'imagenet22k', 'coco', 'ade20k')
DATASETS = {
    'imagenet': ('Image Classification', 'ImageNet-1K'),
    'coco': ('Object Detection', 'COCO'),
    'ade20k': ('Semantic Segmentation', 'ADE20K'),
}
COLLECTIONS = [
    dict(
        Name='DWNet',
        Metadata=dict(Architecture=['Depth-wise Convolution', 'Dynamic Depth-wise Convolution']),
        Paper=dict(
            Title='On the Connection between Local Attention and Dynamic Depth-wise Convolution',
            URL='https://arxiv.org/abs/2106.04263',
        ),
        Code=dict(URL='https://github.com/Atten4Vis/DemystifyLocalViT'),
        README='README.md',
    ),
    dict(
        Name='Swin Transformer baselines of DWNet',
        Metadata=dict(Architecture=['Shift Window Multihead Self Attention']),
        Paper=dict(
            Title='Swin Transformer: Hierarchical Vision Transformer using Shifted Windows',
            URL='https://arxiv.org/abs/2103.14030',
        ),
        README='README.md',
    ),
    dict(
        Name='Attention without softmax, and depth-wise',
        Metadata=dict(Architecture=['Multi-head Self Attention', 'Depth-wise Self Attention']),
        Paper=dict(
            Title='Interpret Vision Transformers as ConvNets with Dynamic Convolutions',
            URL='https://arxiv.org/abs/2309.10713',
        ),
        README='README.md',
    ),
    dict(
        Name='NAT',
        Metadata=dict(Architecture=['Neighborhood Attention']),
        Paper=dict(Title='Neighborhood Attention Transformer', URL='https://arxiv.org/abs/2204.07143'),
        Code=dict(URL='https://github.com/SHI-Labs/Neighborhood-Attention-Transformer'),
        README='README.md',
    ),
    dict(
        Name='DeiT',
        Metadata=dict(Architecture=['Multi-head Self Attention']),
        Paper=dict(
            Title='Training data-efficient image transformers & distillation through attention',
            URL='https://arxiv.org/abs/2012.12877',
        ),
        README='README.md',
    ),
]
# the collection of all rows of the tables with that source; other rows are Swin's or DWNet's
OF_SOURCE = {'interpret': COLLECTIONS[2]['Name'], 'nat': COLLECTIONS[3]['Name'], 'deit': COLLECTIONS[4]['Name']}
HEADER = '# Written by `python tools/analysis_tools/reproduce_tables.py --update`.\n'
INDEX_HEADER = f'# Read by mmengine and mim from the installed package (mmdwnet/.mim/model-index.yml).\n{HEADER}'
PRINTED = {'params': ('Parameters', 'M'), 'flops': ('FLOPs', 'G'), 'activations': ('Activations', 'M')}
BEGIN, END = '<!-- tables: begin -->', '<!-- tables: end -->'
ZOO = 'docs/model-zoo.md'
HEADINGS = {
    'imagenet': 'ImageNet-1K',
    'imagenet/ablation': 'Ablations of the papers, ImageNet-1K',
    'imagenet22k': 'ImageNet-22K, and ImageNet-1K after it',
    'coco': 'COCO',
    'ade20k': 'ADE20K',
}
MAIN_SOURCE = {'imagenet/ablation': 'interpret'}  # of the other trees it is the talk
# the nets of the short table, with what is published of them: tree, start of the name, metric
SHORT = ('swin', 'dwnet', 'dynamic-dwnet', 'idynamic-dwnet')
SHORT_METRICS = (
    ('imagenet', '', 'top-1'),
    ('coco', 'cascade-mask-rcnn_', 'box AP'),
    ('ade20k', 'upernet_', 'mIoU'),
)


def repository() -> Path:
    """Return the root of the checkout that this package is imported from.

    Raises:
        UserError: the package is installed without one.
    """
    root = Path(mmdwnet.__file__).parents[1]
    if not (root / 'configs').is_dir():
        raise UserError(f'{root} is no checkout of this project (no configs/): --update works in a checkout only')
    return root


def update(measured: Sequence[tuple[Table, Sequence[Measured]]], root: Path | None = None) -> list[Path]:
    """Write the metafiles, the index, and the tables of the two pages between their markers; return the paths.

    Args:
        measured: all tables with their rows.
        root: the checkout, by default the one that this package is imported from.
    """
    root = root or repository()
    paths = []
    for tree in TREES:
        paths.append(root / 'configs' / tree / 'metafile.yml')
        paths[-1].write_text(metafile(tree, measured), encoding='utf-8')
    paths.append(root / 'model-index.yml')
    index = dict(Import=[f'configs/{tree}/metafile.yml' for tree in TREES])
    paths[-1].write_text(INDEX_HEADER + _dumped(index), encoding='utf-8')
    for name, section in (('README.md', short_section), (ZOO, zoo_section)):
        text = (root / name).read_text(encoding='utf-8')
        before, _, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not end:
            raise UserError(f'{root / name} has no place for the tables: expected {BEGIN} and {END}')
        (root / name).write_text(before + section(root) + after, encoding='utf-8')
        paths.append(root / name)
    return paths


def metafile(tree: str, measured: Sequence[tuple[Table, Sequence[Measured]]]) -> str:
    """Return the text of configs/<tree>/metafile.yml: every config that lies there, with all its rows."""
    rows: dict[str, list[tuple[Table, Measured]]] = {}
    for table, items in measured:
        for item in items:
            if Path(item.row.config or '').parent.as_posix() == f'configs/{tree}':
                rows.setdefault(item.row.config, []).append((table, item))
    content = dict(Models=[_model(of_config) for of_config in rows.values()])
    if tree == TREES[0]:
        content = dict(Collections=COLLECTIONS, **content)
    return HEADER + _dumped(content)


def _model(rows: Sequence[tuple[Table, Measured]]) -> dict:
    table, item = rows[0]
    row, counts = item.row, item.complexity
    collection = OF_SOURCE.get(table.source, COLLECTIONS['Swin' in row.model]['Name'])
    task, dataset = DATASETS[table.protocol]
    model = {
        'Name': row.name,
        'In Collection': collection,
        'Config': row.config,
        'Metadata': dict(FLOPs=counts.flops, Parameters=counts.params, Activations=counts.activations),
        'Results': [dict(Task=task, Dataset='ImageNet-22K' if row.name.endswith('_in22k') else dataset)],
    }
    published = _published([item.row for _, item in rows])
    if published:
        model['Published'] = published
    if row.weights:
        model['Weights'] = row.weights
    return model


def _published(rows: Sequence[Row]) -> list[dict]:
    """Turn quantity -> source -> value into an entry per source."""
    entries: dict[str, dict] = {}
    for row in rows:
        for quantity, values in row.published.items():
            for source, value in values.items():
                entry = entries.setdefault(source, dict(Source=source))
                if quantity in METRICS:
                    entry[METRICS[quantity].name] = float(value)
                else:
                    name, unit = PRINTED[quantity]
                    entry[name] = value + unit
    return list(entries.values())


def _dumped(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=115, allow_unicode=True)


def zoo_section(root: Path) -> str:
    """Return the tables of docs/model-zoo.md, markers included, from the metafiles that model-index.yml names."""
    parts, used = [], []
    for tree, models in _metafiles(root).items():
        used += [entry['Source'] for model in models for entry in model.get('Published', ())]
        source = MAIN_SOURCE.get(tree, 'talk')
        line = f'What is published is from "{source}" where no other source is named.'
        parts.append(f'### {HEADINGS[tree]}\n\n{line}\n\n{_zoo_table(models, source)}')
    sources = ''.join(f'- {name}: {text}\n' for name, text in load_sources().items() if name in used)
    return '\n'.join([f'{BEGIN}\n', *parts, f'### Sources\n\n{sources}{END}'])


def short_section(root: Path) -> str:
    """Return the table of README.md, markers included: sizes as counted, accuracies as published."""
    trees = {tree: {model['Name']: model for model in models} for tree, models in _metafiles(root).items()}
    labels = {metric.label: metric.name for metric in METRICS.values()}
    lines = [['backbone', 'params', 'FLOPs', *(f'published {metric}' for *_, metric in SHORT_METRICS)]]
    for size in ('tiny', 'base'):
        for net in SHORT:
            cells = []
            for tree, start, metric in SHORT_METRICS:
                model = next(m for name, m in trees[tree].items() if name.startswith(f'{start}{net}-{size}_'))
                if not cells:
                    cells = [f'[{net}-{size}]({model["Config"]})', *_sizes(model)]
                cells.append(_cell(model['Published'], labels[metric], 'talk'))
            lines.append(cells)
    return f'{BEGIN}\n{_table(lines)}{END}'


def _metafiles(root: Path) -> dict[str, list[dict]]:
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    paths = {Path(path).parent.relative_to('configs').as_posix(): root / path for path in index['Import']}
    return {tree: yaml.safe_load(path.read_text(encoding='utf-8'))['Models'] for tree, path in paths.items()}


def _zoo_table(models: Sequence[dict], source: str) -> str:
    metrics = [metric.name for metric in METRICS.values()]
    published = [entry for model in models for entry in model.get('Published', ())]
    metrics = [name for name in metrics if any(name in entry for entry in published)]
    labels = {metric.name: metric.label for metric in METRICS.values()}
    header = ['config', 'params', 'FLOPs', 'published: params', 'FLOPs', *(labels[name] for name in metrics)]
    lines = [[*header, 'weights']]
    for model in models:
        cells = [_cell(model.get('Published', ()), name, source) for name in ('Parameters', 'FLOPs', *metrics)]
        weights = f'[official]({model["Weights"]})' if 'Weights' in model else '-'
        lines.append([f'[{model["Name"]}](../{model["Config"]})', *_sizes(model), *cells, weights])
    return _table(lines)


def _sizes(model: dict) -> list[str]:
    metadata = model['Metadata']
    return [f'{metadata["Parameters"] / 1e6:.2f}M', f'{metadata["FLOPs"] / 1e9:.2f}G']


def _table(lines: Sequence[Sequence[str]]) -> str:
    rule = ['---', *('--:' for _ in lines[0][1:])]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in [lines[0], rule, *lines[1:]])


def _cell(published: Sequence[dict], name: str, source: str) -> str:
    return named_values([(entry['Source'], entry[name]) for entry in published if name in entry], source)
