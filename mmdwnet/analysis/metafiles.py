"""model-index.yml, configs/*/metafile.yml and the tables of README.md, all written from one measurement.

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
# what README.md shows; the ablations are too many for it
HEADINGS = {
    'imagenet': 'ImageNet-1K',
    'imagenet22k': 'ImageNet-1K after ImageNet-22K',
    'coco': 'COCO',
    'ade20k': 'ADE20K',
}


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
    """Write the metafiles, the index, and the tables of README.md where it has the two markers; return the paths.

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
    readme = root / 'README.md'
    text = readme.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        readme.write_text(before + readme_section(root) + after, encoding='utf-8')
        paths.append(readme)
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


def readme_section(root: Path) -> str:
    """Return the tables of README.md, markers included, from the metafiles that model-index.yml names."""
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    parts, used = [], []
    for path in index['Import']:
        tree = Path(path).parent.relative_to('configs').as_posix()
        if tree not in HEADINGS:
            continue
        models = yaml.safe_load((root / path).read_text(encoding='utf-8'))['Models']
        models = [model for model in models if 'Published' in model]
        used += [entry['Source'] for model in models for entry in model['Published']]
        parts.append(f'**{HEADINGS[tree]}**\n\n{_readme_table(models)}')
    sources = ''.join(f'- {name}: {text}\n' for name, text in load_sources().items() if name in used)
    intro = (
        'Parameters and FLOPs in the first columns were counted by this project. What follows "published" are '
        "other\npeople's numbers: no training of these configs was run here. Their source is the talk where no "
        'other is named.\nFLOPs are multiply-adds: ImageNet at 224 x 224, COCO at 1280 x 800 with 1000 proposals '
        'and 100 masks,\nADE20K at 2048 x 512 without the auxiliary head.\n\n'
        'Not here: the ablations of the papers, configs/imagenet/ablation, which\n`python tools/analysis_tools/'
        'reproduce_tables.py --task softmax` (or `depthwise`, `sharing`) prints.\n'
    )
    return '\n'.join([BEGIN, intro, *parts, f'Sources:\n\n{sources}{END}'])


def _readme_table(models: Sequence[dict]) -> str:
    metrics = [metric.name for metric in METRICS.values()]
    metrics = [name for name in metrics if any(name in entry for model in models for entry in model['Published'])]
    labels = {metric.name: metric.label for metric in METRICS.values()}
    header = [
        'config',
        'params',
        'FLOPs',
        'published: params',
        'FLOPs',
        *(labels[name] for name in metrics),
        'weights',
    ]
    lines = [header]
    for model in models:
        metadata = model['Metadata']
        lines.append(
            [
                f'[{model["Name"]}]({model["Config"]})',
                f'{metadata["Parameters"] / 1e6:.2f}M',
                f'{metadata["FLOPs"] / 1e9:.2f}G',
                *(_cell(model['Published'], name) for name in ('Parameters', 'FLOPs', *metrics)),
                f'[official]({model["Weights"]})' if 'Weights' in model else '-',
            ]
        )
    rule = ['---', *('--:' for _ in lines[0][1:])]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in [lines[0], rule, *lines[1:]])


def _cell(published: Sequence[dict], name: str) -> str:
    return named_values([(entry['Source'], entry[name]) for entry in published if name in entry], 'talk')
