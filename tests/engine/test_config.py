"""Loading a config for a command line: overrides that reach everything made from them, and clear refusals."""

import pytest

from mmdwnet.engine.config import datasets_of, load_config, task_of
from mmdwnet.errors import UserError

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.mark.parametrize(('path', 'task'), [(CLS, 'cls'), (DET, 'det'), (SEG, 'seg')])
def test_the_config_says_which_task(path, task):
    assert task_of(load_config(path)) == task


def test_data_root_reaches_loaders_and_annotation_files():
    cfg = load_config(DET, dict(data_root='elsewhere/coco'))
    assert [cfg[name].dataset.data_root for name in LOADERS] == ['elsewhere/coco'] * 3
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == 'elsewhere/coco/annotations/instances_val2017.json'


def test_classes_reach_datasets_and_heads():
    cfg = load_config(DET, {'metainfo.classes': ('date', 'fig', 'nut'), 'num_classes': 3})
    assert [cfg[name].dataset.metainfo.classes for name in LOADERS] == [('date', 'fig', 'nut')] * 3
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 3
    cfg = load_config(
        SEG, dict(num_classes=150, dataset_type='mmseg.ADE20KDataset', metainfo=None, img_suffix='.jpg')
    )
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 150
    for dataset in (cfg[name].dataset for name in LOADERS):
        assert (dataset.type, dataset.metainfo, dataset.img_suffix) == ('mmseg.ADE20KDataset', None, '.jpg')


def test_sizes_reach_pipelines_and_model():
    cfg = load_config(SEG, dict(scale=(256, 192), crop_size=(192, 192)))
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (256, 192)
    assert (
        cfg.val_dataloader.dataset.pipeline[1].scale == cfg.test_dataloader.dataset.pipeline[1].scale == (256, 192)
    )
    assert cfg.tta_pipeline[1].scale == (256, 192)
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == cfg.model.data_preprocessor['size'] == (192, 192)
    cfg = load_config(CLS, dict(scale=64))
    assert cfg.train_dataloader.dataset.pipeline[1].scale == cfg.val_dataloader.dataset.pipeline[1].scale == 64


def test_a_length_reaches_loop_and_schedule():
    cfg = load_config(CLS, dict(max_epochs=7))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == cfg.param_scheduler[1].end == 7
    assert cfg.param_scheduler[0].end == 2
    cfg = load_config(SEG, dict(max_iters=70))
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].T_max == cfg.param_scheduler[1].end == 70


def test_without_overrides_nothing_changes():
    assert load_config(DET).to_dict() == load_config(DET, {}).to_dict()


def test_other_overrides_stay_where_they_are_put():
    cfg = load_config(CLS, {'train_dataloader.dataset.data_root': 'only/here'})
    assert [cfg[name].dataset.data_root for name in LOADERS] == ['only/here'] + ['data/mini/imagenet'] * 2


def test_datasets_inside_wrappers_are_found():
    inner = dict(type='A', data_root='a')
    loader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[inner, inner])))
    assert datasets_of(loader) == [inner, inner]
    assert datasets_of(None) == []


def test_refusals_are_one_line(tmp_path):
    def refused(match, path, overrides=None):
        with pytest.raises(UserError, match=match) as error:
            load_config(str(path), overrides)
        assert '\n' not in str(error.value)

    refused('config .*none.py not found', tmp_path / 'none.py')
    (tmp_path / 'broken.py').write_text('a = (')
    refused('broken.py cannot be read', tmp_path / 'broken.py')
    (tmp_path / 'base.py').write_text("_base_ = './no.py'")
    refused('base.py cannot be read.*no.py', tmp_path / 'base.py')
    (tmp_path / 'other.py').write_text("default_scope = 'mmpose'")
    refused("default_scope='mmpose'.*mmdet.*mmpretrain.*mmseg", tmp_path / 'other.py')
    refused('--cfg-options do not fit', CLS, {'num_classes.a': 1})
    refused("no 'num_clases' there: did you mean 'num_classes'", CLS, {'num_clases': 3})
    refused("no 'optimiser' there: did you mean 'optimizer'", CLS, {'optim_wrapper.optimiser.lr': 0.1})
    refused("no 'optim_wraper' there: did you mean 'optim_wrapper'", CLS, {'optim_wraper.type': 'OptimWrapper'})
    refused('data_root=7: expected a folder', CLS, {'data_root': 7})
    (tmp_path / 'scope.py').write_text("_base_ = 'mmfoo::a/b.py'")
    refused('scope.py cannot be read: AssertionError', tmp_path / 'scope.py')


def test_classes_reach_configs_that_have_no_variable_for_them():
    coco = load_config(
        'configs/coco/mask-rcnn_dwnet-tiny_fpn_1x_coco.py',
        {'data_root': 'd', 'num_classes': 2, 'metainfo.classes': ('a', 'b'), 'auto_scale_lr.enable': True},
    )
    assert coco.model.roi_head.bbox_head.num_classes == coco.model.roi_head.mask_head.num_classes == 2
    assert [coco[name].dataset.metainfo['classes'] for name in LOADERS] == [('a', 'b')] * 3
    assert coco.val_evaluator.ann_file.startswith('d/')
    cls = load_config('configs/imagenet/dwnet-tiny_8xb128_in1k.py', dict(num_classes=10))
    assert cls.model.head.num_classes == cls.data_preprocessor.num_classes == 10
    ade = load_config('configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py', dict(img_suffix='.png'))
    assert [ade[name].dataset.img_suffix for name in LOADERS] == ['.png'] * 3
