"""The tables: every row against its published numbers, and metrics from files of results only."""

import json
import re

import pytest

from mmdwnet.analysis import tables
from mmdwnet.analysis.metafiles import TREES, repository
from mmdwnet.analysis.published import METRICS, Row, load_sources, load_tables
from mmdwnet.errors import UserError

TABLES = load_tables()
ROWS = [(table.title, row.model) for table in TABLES for row in table.rows]
MODELS = ['Swin', 'DWNet', 'dynamic DWNet', 'I-dynamic DWNet']


@pytest.fixture(scope='module')
def by_name(measured):
    return {(table.title, item.row.model): item for table, items in measured for item in items}


@pytest.mark.parametrize(('title', 'model'), ROWS, ids=[f'{title}: {model}' for title, model in ROWS])
def test_row_meets_its_published_numbers(title, model, by_name):
    """Sizes at the printed digits, FLOPs of fewer than three decimals within 1 %; where not, the row says so."""
    item = by_name[title, model]
    if item.complexity is None:
        assert item.row.missing
        return
    assert not item.complexity.uncounted
    for quantity, _, _, _ in tables.SIZES:
        if item.row.printed(quantity):
            meets = item.agrees(quantity)
            if quantity == 'flops' and not re.search(r'\.\d{3}$', item.row.printed(quantity)):
                meets = abs(item.difference(quantity)) <= 0.01
            assert meets == (quantity not in item.row.differ), quantity
        else:
            assert quantity not in item.row.differ
    assert not item.row.differ or item.row.note


def test_swin_anchors(by_name):
    """The digits of the second paper, to which the convention of counting was set."""
    counts = by_name['ImageNet-1K', 'Swin-T'].complexity
    assert (f'{counts.flops / 1e9:.3f}', f'{counts.activations / 1e6:.3f}') == ('4.508', '17.054')
    counts = by_name['ImageNet-1K', 'Swin-B'].complexity
    assert (f'{counts.flops / 1e9:.3f}', f'{counts.activations / 1e6:.3f}') == ('15.467', '36.625')
    assert f'{by_name["ADE20K, UPerNet, 160k iterations", "Swin-T"].value("flops"):.1f}' == '945.7'


def test_the_exceptions_among_the_papers_models_are_the_known_ones():
    differ = {
        (row.model, row.differ) for table in TABLES for row in table.rows if 'zoo' not in table.tasks if row.differ
    }
    assert differ == {
        ('DWNet-T', ('flops',)),
        ('I-dynamic DWNet-T', ('flops',)),
        ('I-dynamic DWNet-B', ('flops',)),
        ('DeiT-S, scaling, 1x1, rel', ('flops',)),
        ('DeiT-B, scaling, depth-wise, rel', ('flops',)),
        ('Swin-T, scaling, depth-wise, rel', ('flops',)),
        ('Swin-B, scaling, 1x1, rel', ('flops', 'activations')),
        ('Swin-B, scaling, depth-wise, rel', ('flops',)),
    }


def test_the_second_papers_tables_are_whole_and_agree_with_each_other():
    """19 rows of table 2 with accuracies, 15 of table 3 with sizes too; a net has one accuracy in both."""
    (softmax,), (depthwise,) = load_tables('softmax'), load_tables('depthwise')
    assert [len(table.rows) for table in (softmax, depthwise)] == [19, 15]
    assert all(set(row.published) == {'top1'} for row in softmax.rows)
    assert all(set(row.published) == {'params', 'flops', 'activations', 'top1'} for row in depthwise.rows)
    top1 = {row.config: row.printed('top1') for row in softmax.rows}
    assert len(top1) == 19
    shared = [row for row in depthwise.rows if row.config in top1]
    assert len(shared) == 6
    assert all(row.printed('top1') == top1[row.config] for row in shared)


def test_published_activations_stand_beside_the_measured(measured):
    """At the printed digits a difference is "="; a quantity that was published for no row has no such columns."""
    lines = {table.title: tables.markdown(table, items).splitlines() for table, items in measured}
    by_task = {table.tasks[0]: lines[table.title] for table in TABLES}
    header, row = (cells_of(by_task['depthwise'], start) for start in ('| model', '| Swin-B, scaling, 1x1'))
    at = header.index('activations (M)')
    assert header[at : at + 3] == ['activations (M)', 'published', 'difference']
    assert row[at : at + 3] == ['36.625', '38.930', '-5.92%']
    assert row[header.index('params (M)') :][:3] == ['87.768', '87.768', '=']
    assert cells_of(by_task['softmax'], '| model').count('published') == 1  # of top-1
    assert cells_of(by_task['sharing'], '| model').count('published') == 0


def cells_of(lines, start):
    return [cell.strip() for cell in next(line for line in lines if line.startswith(start)).split('|')]


def test_each_table_of_the_paper_has_its_eight_models():
    for task in ('imagenet', 'coco', 'ade20k'):
        first = load_tables(task)[0]
        assert [row.model for row in first.rows] == [f'{name}-{size}' for size in 'TB' for name in MODELS]
        for row in first.rows:
            assert {'params', 'flops', *first.metrics} == set(row.published)


def test_every_config_stands_in_the_tables():
    """In one row, or of an ablation in one row of several tables."""
    root = repository()
    rows = [row.config for table in TABLES for row in table.rows if row.config and '::' not in row.config]
    files = [
        path.relative_to(root).as_posix() for tree in TREES for path in (root / 'configs' / tree).glob('*.py')
    ]
    assert sorted(set(rows)) == sorted(files)
    assert all('/ablation/' in config for config in rows if rows.count(config) > 1)
    for table in TABLES:
        configs = [row.config for row in table.rows if row.config and '::' not in row.config]
        assert len(set(configs)) == len(configs)


def test_every_source_is_explained():
    used = {source for t in TABLES for row in t.rows for values in row.published.values() for source in values}
    assert used | {table.source for table in TABLES} == set(load_sources())


def test_counting_does_not_depend_on_the_place(by_name, monkeypatch, tmp_path):
    from mmdwnet.analysis.protocols import measure

    monkeypatch.chdir(tmp_path)
    row = next(row for row in TABLES[0].rows if row.model == 'DWNet-T')
    assert measure(row, 'imagenet') == by_name['ImageNet-1K', 'DWNet-T'].complexity


def test_missing_config_is_named():
    from mmdwnet.analysis.protocols import measure

    with pytest.raises(UserError, match=r'configs/imagenet/none\.py not found'):
        measure(Row('none', config='configs/imagenet/none.py', published={}), 'imagenet')
    with pytest.raises(UserError, match='needs mmnone, which is not installed'):
        measure(Row('none', config='mmnone::a/b.py', published={}), 'imagenet')


def test_without_results_no_metric_is_measured(measured):
    for table, items in measured:
        lines = tables.markdown(table, items).splitlines()
        columns = [cell.strip() for cell in lines[2].split('|')]
        for line in lines[4 : 4 + len(items)]:
            cells = [cell.strip() for cell in line.split('|')]
            for name in table.metrics:
                assert cells[columns.index(f'{METRICS[name].label} (%)')] == 'not run'
    for table in tables.as_json(measured):
        for row in table['rows']:
            assert {row['measured'][name] for name in row['measured'] if name in METRICS} <= {None}


def with_results(measured, task, results):
    read = tables.read_results([f'{name}={path}' for name, path in results.items()], load_tables(task))
    return {item.row.name: tables._metrics(item.row, table, read) for table, items in measured for item in items}


def test_results_become_percent_of_their_row_only(measured, tmp_path):
    coco = tmp_path / 'coco.json'
    coco.write_text(json.dumps({'coco/bbox_mAP': 0.123, 'coco/segm_mAP': 0.1, 'coco/bbox_mAP_50': 0.9}))
    name = 'cascade-mask-rcnn_dwnet-tiny_fpn_ms-3x_coco'
    metrics = with_results(measured, 'coco', {name: coco})
    assert metrics.pop(name) == pytest.approx({'box_ap': 12.3, 'mask_ap': 10.0})
    assert not any(metrics.values())


def test_part_of_the_metrics_is_enough(measured, tmp_path):
    """ReaL needs its label file; without it the cell stays empty."""
    (tmp_path / 'dwnet-tiny_8xb128_in1k.json').write_text(json.dumps({'accuracy/top1': 12.5}))
    asked = load_tables('imagenet')
    read = tables.read_results([str(tmp_path)], asked)
    table, items = measured[0]
    items = [tables.Measured(i.row, i.complexity, tables._metrics(i.row, table, read)) for i in items]
    lines = tables.markdown(table, items).splitlines()
    at = cells_of(lines, '| model').index('top-1 (%)')
    cells = cells_of(lines, '| DWNet-T')
    assert cells[at : at + 4] == ['12.50', '81.3 (readme 81.2)', 'not run', '86.8']


def test_a_config_of_several_tables_has_its_result_in_each(measured, tmp_path):
    path = tmp_path / 'metrics.json'
    path.write_text(json.dumps({'accuracy/top1': 12.5}))
    name = 'swin-tiny_softmax_rel_16xb64_in1k'
    for task in ('softmax', 'depthwise', 'sharing'):
        metrics = with_results([pair for pair in measured if task in pair[0].tasks], task, {name: path})
        assert [metric for metric in metrics.values() if metric] == [{'top1': 12.5}]


@pytest.mark.parametrize(
    ('item', 'content', 'message'),
    [
        ('dwnet-tiny_8xb128_in1k', None, 'expected NAME=FILE.json or a folder'),
        ('swin-huge={}', {'accuracy/top1': 1.0}, "no row is called 'swin-huge'"),
        ('dwnet-tiny_8xb128_in1k={}', {'loss': 1.0}, 'none of the metrics'),
        ('dwnet-tiny_8xb128_in1k={}', [1], 'none of the metrics'),
        ('dwnet-tiny_8xb128_in1k={}', {'accuracy/top1': 'high'}, "must be a number, got 'high'"),
        ('dwnet-tiny_8xb128_in1k={}', 'no json', 'is no JSON file'),
        ('dwnet-tiny_8xb128_in1k=none.json', None, 'cannot be read'),
    ],
)
def test_bad_results_are_one_line(item, content, message, tmp_path):
    path = tmp_path / 'metrics.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as raised:
        tables.read_results([item.format(path)], load_tables('imagenet'))
    assert '\n' not in str(raised.value)


def test_empty_folder_of_results(tmp_path):
    with pytest.raises(UserError, match=r'the folder has no \.json file'):
        tables.read_results([str(tmp_path)], load_tables())


def test_figures_mark_published_and_measured_apart(measured, tmp_path):
    from mmdwnet.analysis import figures

    table, items = measured[0]
    plain = figures.draw(table, items, tmp_path)
    before = [path.read_bytes() for path in plain]
    items = [tables.Measured(item.row, item.complexity, {'top1': 80.0, 'real': 85.0}) for item in items]
    after = [path.read_bytes() for path in figures.draw(table, items, tmp_path)]
    assert [path.name for path in plain] == ['imagenet-1k_top1.png', 'imagenet-1k_real.png']
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_ablations_keep_their_names_in_a_figure(measured):
    """Nets of one family and size: its letter, which is enough elsewhere, would not tell them apart."""
    from matplotlib.figure import Figure

    from mmdwnet.analysis import figures

    for task, name in (('softmax', 'Swin-T, scaling, rel'), ('imagenet', 'B')):
        items = next(items for table, items in measured if task in table.tasks)
        rows = [tables.Measured(i.row, i.complexity, {'top1': 80.0}) for i in items if 'Swin' in i.row.model]
        labels = figures._draw_points(Figure().subplots(), rows, 'params', 'top1')
        assert name in [text for _, _, text, _ in labels]


def test_no_figure_without_a_point(measured, tmp_path):
    """Mask R-CNN 1x: one published metric, of a model whose size was not published with it."""
    from mmdwnet.analysis import figures

    (items,) = [(table, items) for table, items in measured if table.title == 'COCO, Mask R-CNN, 1x']
    assert figures.draw(*items, tmp_path) == []
