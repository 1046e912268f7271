"""model-index.yml, metafiles and the pages say what was counted and published, and mmengine finds them."""

import pytest
import yaml
from mmengine.config import Config
from mmengine.hub import get_config

from mmdwnet.analysis import metafiles
from mmdwnet.analysis.metafiles import BEGIN, END, TREES, ZOO, repository
from mmdwnet.errors import UserError

ROOT = repository()
COMMAND = 'python tools/analysis_tools/reproduce_tables.py --update'


def models_of(tree):
    return yaml.safe_load((ROOT / 'configs' / tree / 'metafile.yml').read_text(encoding='utf-8'))['Models']


@pytest.mark.parametrize('tree', TREES)
def test_metafile_is_what_the_tables_give(tree, measured):
    text = (ROOT / 'configs' / tree / 'metafile.yml').read_text(encoding='utf-8')
    assert text == metafiles.metafile(tree, measured), f'out of date: run {COMMAND}'


def test_index_lists_the_metafiles(measured):
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    assert index == {'Import': [f'configs/{tree}/metafile.yml' for tree in TREES]}


@pytest.mark.parametrize('tree', TREES)
def test_models_are_in_the_form_of_openmmlab(tree):
    collections = {collection['Name'] for collection in metafiles.COLLECTIONS}
    models = models_of(tree)
    assert len({model['Name'] for model in models}) == len(models)
    for model in models:
        assert (ROOT / model['Config']).is_file()
        assert model['Config'] == f'configs/{tree}/{model["Name"]}.py'
        assert model['In Collection'] in collections
        assert {key: type(value) for key, value in model['Metadata'].items()} == dict(
            FLOPs=int, Parameters=int, Activations=int
        )
        # nothing of these configs was run: no metric may pass for ours
        assert all('Metrics' not in result for result in model['Results'])


def test_released_weights_stand_with_the_models_that_have_them():
    weights = [model['Weights'] for tree in TREES for model in models_of(tree) if 'Weights' in model]
    assert len(set(weights)) == len(weights) == 12
    base = 'https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease/'
    assert all(url.startswith(base) and url.endswith('.pth') for url in weights)


def test_a_config_of_several_tables_is_one_model_with_all_that_was_published():
    models = {model['Name']: model for model in models_of('imagenet/ablation')}
    assert 'Published' not in models['local-mlp-tiny_share-1_16xb64_in1k']
    (published,) = models['swin-tiny_softmax_rel_16xb64_in1k']['Published']
    sizes = {'Parameters': '28.288M', 'FLOPs': '4.508G', 'Activations': '17.054M'}
    assert published == {'Source': 'interpret', 'Top 1 Accuracy': 81.13, **sizes}


@pytest.mark.parametrize(
    'config',
    [
        'imagenet/dwnet-tiny_8xb128_in1k.py',
        'imagenet/ablation/swin-tiny_softmax_rel_16xb64_in1k.py',
        'coco/mask-rcnn_dwnet-tiny_fpn_1x_coco.py',
    ],
)
def test_mmengine_resolves_the_name_from_anywhere(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = 'mmdwnet::{config}'\n")
    assert Config.fromfile(child).model.backbone.type == 'mmdwnet.DWNet'
    assert get_config(f'mmdwnet::{config}').model.backbone.type == 'mmdwnet.DWNet'


def test_mmengine_finds_the_released_weights():
    cfg = get_config('mmdwnet::imagenet/dwnet-tiny_8xb128_in1k.py', pretrained=True)
    assert cfg.model_path.endswith('/dwnet_tiny_224.pth')


def test_update_writes_all_files_and_the_marked_part_of_the_pages(measured, tmp_path):
    for tree in TREES:
        (tmp_path / 'configs' / tree).mkdir(parents=True)
    pages = [tmp_path / 'README.md', tmp_path / ZOO]
    pages[1].parent.mkdir()
    for page in pages:
        page.write_text(f'before\n{BEGIN}\nold\n{END}\nafter\n')
    paths = metafiles.update(measured, tmp_path)
    assert len(paths) == len(TREES) + 3
    texts = [page.read_text(encoding='utf-8') for page in pages]
    for text in texts:
        assert text.startswith(f'before\n{BEGIN}\n')
        assert text.endswith(f'{END}\nafter\n')
        assert 'old' not in text.split(BEGIN)[1].split(END)[0].split()
    for tree in TREES:
        for model in models_of(tree):
            assert f'(../{model["Config"]})' in texts[1]
    metafiles.update(measured, tmp_path)
    assert [page.read_text(encoding='utf-8') for page in pages] == texts
    pages[1].write_text('no place')
    with pytest.raises(UserError, match='model-zoo.md has no place for the tables'):
        metafiles.update(measured, tmp_path)


@pytest.mark.parametrize(
    ('page', 'section'), [('README.md', metafiles.short_section), (ZOO, metafiles.zoo_section)]
)
def test_a_page_has_the_tables_of_the_metafiles(page, section):
    text = (ROOT / page).read_text(encoding='utf-8')
    found = BEGIN + text.split(BEGIN)[1].split(END)[0] + END
    assert found == section(ROOT), f'out of date: run {COMMAND}'


def test_the_short_table_has_both_sizes_of_every_net():
    rows = [line for line in metafiles.short_section(ROOT).splitlines() if line.startswith('| [')]
    assert len(rows) == 8
    assert rows[1].startswith(
        '| [dwnet-tiny](configs/imagenet/dwnet-tiny_8xb128_in1k.py) | 24.17M | 3.74G | 81.3 '
    )
    assert rows[1].endswith('| 49.9 | 45.5 |')
