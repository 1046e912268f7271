"""What the page says, part by part; `tests/tools/test_doctor_tool.py` runs the whole of it."""

import copy
import io
import json
import math
import shutil
import socket
import subprocess
import sys
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmdwnet import compat
from mmdwnet.engine.config import load_config
from mmdwnet.engine.doctor import hardware, measuring, software, versions
from mmdwnet.engine.doctor.forecast import Forecast
from mmdwnet.engine.doctor.page import Finding, Page, duration, size
from mmdwnet.engine.doctor.running import diagnose
from mmdwnet.engine.doctor.settings import Settings, build_model, input_size
from mmdwnet.errors import UserError

CLS, DET, SEG = (f'configs/mini/dwnet-nano_{task}_mini.py' for task in ('cls', 'mask-rcnn', 'upernet'))
GIB = 2**30


class TestPage:
    def of(self, *findings):
        file = io.StringIO()
        page = Page(file)
        page.section('part')
        page.look('check', lambda: iter(findings))
        return page, file

    def test_fails_if_a_finding_does_and_names_the_cure(self):
        page, file = self.of(Finding('ok', 'a', 'good'), Finding('fails', 'b', 'bad', 'repair it'))
        assert not page.end('fine')
        assert 'cure: repair it' in file.getvalue() and 'fine' not in file.getvalue()

    def test_warnings_do_not_fail(self):
        page, file = self.of(Finding('warning', 'a', 'slow'))
        assert page.end('fine')
        assert 'fine: 0 problems, 1 warning.' in file.getvalue()

    def test_an_exception_is_a_line_and_the_page_goes_on(self):
        def broken():
            yield Finding('ok', 'first', 'found before it broke')
            raise ZeroDivisionError('division\nby zero')

        page, file = self.of()
        assert not page.look('broken', broken)
        assert page.look('next', lambda: iter([Finding('ok', 'next', 'still here')]))
        text = file.getvalue()
        assert 'found before it broke' in text and 'still here' in text
        assert 'ZeroDivisionError: division by zero' in text and 'Traceback' not in text

    def test_lines_have_a_width_that_can_be_read(self):
        page, file = self.of(Finding('fails', 'long name that is', 'word ' * 100, 'do ' * 60))
        assert max(map(len, file.getvalue().splitlines())) <= 110

    def test_says_the_same_without_rich(self, monkeypatch):
        findings = Finding('ok', 'a', 'good [not markup]'), Finding('fails', 'b', 'bad ' * 40, 'repair')
        pages = [self.of(*findings)]
        monkeypatch.setitem(sys.modules, 'rich.console', None)
        pages.append(self.of(*findings))
        with_rich, without = ([line.rstrip() for line in f.getvalue().splitlines()] for _, f in pages)
        assert with_rich == without and 'good [not markup]' in ' '.join(without)

    def test_can_be_read_by_programs(self):
        page, _ = self.of(Finding('ok', 'a', 'good', values=dict(number=1.5)))
        data = json.loads(json.dumps(page.as_json()))
        assert data['fails'] == 0 and data['sections'][0]['findings'][0]['values'] == dict(number=1.5)

    @pytest.mark.parametrize(
        ('text', 'expected'),
        [
            (size(512), '512 bytes'),
            (size(1536), '1.5 KiB'),
            (size(300 * GIB), '300 GiB'),
            (size(5e16), '45475 TiB'),
        ],
    )
    def test_bytes(self, text, expected):
        assert text == expected

    @pytest.mark.parametrize(
        ('text', 'expected'),
        [(duration(0.0123), '12.3 ms'), (duration(90), '90.0 s'), (duration(7200), '2.0 hours')],
    )
    def test_seconds(self, text, expected):
        assert text == expected


class TestMachine:
    def statuses(self, findings):
        return {finding.name: finding for finding in findings}

    def test_this_one(self):
        found = self.statuses([*hardware.processors(), *software.kernels('cpu'), *software.processes('cpu')])
        assert (
            found['CPU'].values['cores'] >= 1 and 0 < found['CPU'].values['free'] <= found['CPU'].values['memory']
        )
        assert 'tiled' in found['kernels'].values['usable']
        assert found['gloo'].status == 'ok'
        assert not torch.distributed.is_initialized()

    def test_a_kernel_that_computes_something_else_fails(self, monkeypatch):
        from mmdwnet.ops import tiled

        right = tiled.inhomogeneous_forward
        monkeypatch.setattr(tiled, 'inhomogeneous_forward', lambda *args, **options: right(*args, **options) + 1)
        assert "impl='tiled'" in next(f.text for f in software.kernels('cpu') if f.status == 'fails')

    def test_a_folder_that_cannot_be_written_to(self, tmp_path, monkeypatch):
        monkeypatch.setattr(hardware.os, 'access', lambda *args: False)  # root may write anywhere
        (finding,) = hardware.disk(tmp_path / 'not' / 'there')
        assert finding.status == 'fails' and '--work-dir' in finding.cure

    @pytest.mark.parametrize(('free', 'status'), [(100 * GIB, 'ok'), (4 * GIB, 'warning'), (2 * GIB, 'fails')])
    def test_room_for_checkpoints(self, free, status, tmp_path, monkeypatch):
        monkeypatch.setattr(hardware.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
        (finding,) = hardware.disk(tmp_path, count=3, each=GIB)
        assert finding.status == status and (status == 'ok') == (finding.cure == '')

    @pytest.mark.parametrize(
        ('free', 'status'), [(8 * GIB, 'ok'), (2**26, 'fails')]
    )  # 64 MiB are Docker's default
    def test_shared_memory_for_the_batches(self, free, status, monkeypatch):
        monkeypatch.setattr(hardware.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
        (finding,) = hardware.shared_memory(2**28)
        assert finding.status == status
        assert status == 'ok' or 'num_workers' in finding.cure

    def test_a_port_in_use(self, monkeypatch):
        with socket.socket() as taken:
            taken.bind(('', 0))
            taken.listen()
            monkeypatch.setattr(hardware, 'PORT', taken.getsockname()[1])
            (finding,) = hardware.port()
            assert finding.status == 'warning' and 'MASTER_PORT' in finding.cure
        (finding,) = hardware.port()
        assert finding.status == 'ok'

    @pytest.mark.parametrize(
        ('cuda', 'hidden', 'status', 'cure'),
        [
            (None, None, 'fails', 'torch for CUDA'),
            ('12.1', None, 'fails', 'driver for CUDA 12.1'),
            ('12.1', '', 'note', 'unset CUDA_VISIBLE_DEVICES'),
        ],
    )
    def test_a_gpu_that_torch_cannot_use(self, cuda, hidden, status, cure, monkeypatch):
        monkeypatch.setattr(software, '_nvidia_smi', lambda: [('NVIDIA X', '470.1')])
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        monkeypatch.setattr(torch.version, 'cuda', cuda)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if hidden is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
        (finding,) = software.gpus()
        assert finding.status == status and 'NVIDIA X' in finding.text and cure in finding.cure

    def test_a_gpu_whose_kernels_do_not_run(self, monkeypatch):
        monkeypatch.setattr(software, '_nvidia_smi', lambda: [('NVIDIA X', '470.1')])
        properties = SimpleNamespace(name='NVIDIA X')
        fakes = dict(is_available=lambda: True, device_count=lambda: 1, mem_get_info=lambda index: (GIB, GIB))
        fakes |= dict(get_device_properties=lambda index: properties, get_device_capability=lambda index: (3, 5))
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        problem = 'no kernel image is available for execution on the device'
        monkeypatch.setattr(software, '_try_kernels', lambda device: problem)
        (finding,) = software.gpus()
        assert finding.status == 'fails' and problem in finding.text and 'capability 3.5' in finding.cure

    def test_compiled_ops_matter_to_detection_only(self, monkeypatch):
        monkeypatch.setattr(software, 'has_ops', lambda: False)
        statuses = [next(software.compiled_ops('cpu', task, alone)).status for task, alone in CASES_OF_OPS]
        assert statuses == ['fails', 'note', 'warning']


CASES_OF_OPS = [('det', False), ('cls', False), (None, True)]


class TestVersions:
    def without(self, monkeypatch, *names):
        real = compat.metadata.version

        def version(name):
            if name in names:
                raise compat.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(compat.metadata, 'version', version)
        find = compat.find_spec
        modules = [name.removeprefix('onedl-').replace('detection', 'det') for name in names]
        monkeypatch.setattr(compat, 'find_spec', lambda name: None if name in modules else find(name))

    def test_here_are_those_that_the_tests_run_on(self):
        rows = {finding.name: finding for finding in versions.libraries(None, True)}
        assert all(rows[name].status == 'ok' for name in compat.LIBRARIES)
        maintained = compat.installed(compat.LIBRARIES['mmengine'])[0][0].name == 'onedl-mmengine'
        assert versions.tested_versions()['torch'] == ('2.11.0' if maintained else '2.1.2')
        assert all('as tested' in rows[name].text for name in compat.LIBRARIES)

    @pytest.mark.parametrize(
        ('task', 'alone', 'status'), [('det', False, 'fails'), ('cls', False, 'note'), (None, True, 'warning')]
    )
    def test_a_missing_library_fails_where_it_is_needed(self, task, alone, status, monkeypatch):
        self.without(monkeypatch, 'onedl-mmdetection', 'mmdet')
        rows = {finding.name: finding for finding in versions.libraries(task, alone)}
        assert rows['mmdet'].status == status
        assert 'not installed' in rows['mmdet'].text and 'pip install "mmdwnet[det]"' in rows['mmdet'].cure

    def test_a_version_that_does_not_work(self, monkeypatch):
        real = compat.metadata.version
        monkeypatch.setattr(compat.metadata, 'version', lambda name: '2.0.1' if name == 'torch' else real(name))
        rows = {finding.name: finding for finding in versions.libraries('cls', False)}
        assert rows['torch'].status == 'fails' and 'torch>=2.1' in rows['torch'].cure

    def test_a_library_that_is_installed_but_broken(self, monkeypatch):
        def broken(name):
            raise OSError('libcudart.so.12: cannot open shared object file')

        monkeypatch.setattr(versions.importlib, 'import_module', broken)
        rows = {finding.name: finding for finding in versions.libraries('cls', False)}
        assert rows['mmcv'].status == 'fails' and 'libcudart.so.12' in rows['mmcv'].text


class TestInputSize:
    @pytest.mark.parametrize(
        ('config', 'expected'),
        [
            (CLS, (96, 96)),
            (DET, (128, 128)),
            (SEG, (128, 128)),
            ('configs/imagenet/dwnet-tiny_8xb128_in1k.py', (224, 224)),
            ('configs/coco/mask-rcnn_dwnet-tiny_fpn_1x_coco.py', (800, 1333)),
            ('configs/coco/mask-rcnn_dwnet-tiny_fpn_ms-3x_coco.py', (800, 1333)),
            ('configs/ade20k/upernet_dwnet-tiny_8xb2-160k_ade20k-512x512.py', (512, 512)),
        ],
    )
    def test_of_the_recipes(self, config, expected):
        assert input_size(load_config(config)) == expected

    def test_that_no_transform_says(self):
        cfg = load_config(CLS)
        cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
        with pytest.raises(UserError, match='no transform of its pipeline says how large'):
            input_size(cfg)


class TestWeights:
    def coverage(self, config, root, pretrained=None, **overrides):
        settings = Settings(load_config(config, dict(data_root=str(root), **overrides)))
        if pretrained:  # --cfg-options cannot put a dict where the config has none; a config file can
            settings.cfg.model.backbone.init_cfg = pretrained
        list(settings.model())
        return list(settings.weights())

    @pytest.fixture
    def saved(self, tmp_path):
        def save(config, **overrides):
            torch.save(
                dict(state_dict=build_model(load_config(config, overrides)).state_dict()), tmp_path / 'w.pth'
            )
            return str(tmp_path / 'w.pth')

        return save

    @pytest.mark.parametrize('config', [CLS, DET, SEG])
    def test_its_own_checkpoint_covers_all_of_it(self, config, saved, mini_root):
        (finding,) = self.coverage(config, mini_root, load_from=saved(config))
        assert finding.status == 'ok' and finding.values['covered'] == 1 and '100.00 %' in finding.text

    def test_a_classifier_covers_the_backbone_of_a_detector(self, saved, mini_root):
        pretrained = dict(type='Pretrained', checkpoint=saved(CLS), prefix='backbone.')
        (finding,) = self.coverage(DET, mini_root, pretrained)
        model = build_model(load_config(DET))
        # of the backbone, the four output norms are new
        shared = sum(p.numel() for name, p in model.backbone.named_parameters() if not name.startswith('norm_'))
        total = sum(p.numel() for p in model.parameters())
        assert finding.status == 'ok' and finding.values['covered'] == pytest.approx(shared / total)

    def test_other_classes_start_afresh(self, saved, mini_root):
        (finding,) = self.coverage(CLS, mini_root, load_from=saved(CLS, num_classes=7))
        assert 0.99 < finding.values['covered'] < 1 and 'head.fc.weight (7, 256) there' in finding.text

    def test_none(self, mini_root):
        (finding,) = self.coverage(CLS, mini_root)
        assert finding.status == 'note' and 'random' in finding.text


def step_of(batch, seconds, gib, loss=1.0):
    return dict(batch=batch, seconds=seconds, peak=int(gib * GIB), loss=loss)


class TestForecast:
    @pytest.fixture
    def cfg(self, tmp_path):
        checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=3)
        return Config(
            dict(
                train_dataloader=dict(batch_size=32, drop_last=True),
                optim_wrapper=dict(type='OptimWrapper'),
                train_cfg=dict(by_epoch=True, max_epochs=10),
                default_hooks=dict(checkpoint=checkpoint),
                work_dir=str(tmp_path),
            )
        )

    def findings(self, cfg, steps, limit=100, device='cuda', full=None, loading=None, images=1000, problems=None):
        step = dict(device=device, size=(224, 224), steps=steps, limit=limit * GIB, full=full, checkpoint=2**20)
        results = dict(step=step) if steps else {}
        if loading:
            results['loading'] = dict(batches=9, workers=2, per_epoch=31, batch_bytes=2**20, **loading)
        forecast = Forecast(copy.deepcopy(cfg), images, results, problems or {})
        return {finding.name: finding for finding in forecast.findings()}

    def test_a_batch_that_fits(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 4), step_of(32, 1.0, 34)])
        # 1 GiB an image, 2 GiB besides, 90 of 100 GiB
        assert found['batch'].status == 'ok'
        assert found['batch'].values == dict(largest=88, suggested=32, per_image=GIB, fixed=2 * GIB)

    def test_a_batch_that_does_not_fit(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 4), step_of(10, 0.5, 12)], limit=20, full=20)
        assert found['batch'].status == 'fails' and found['batch'].values['largest'] == 16
        # 2 x 16 images instead of 32
        assert 'batch_size=16 optim_wrapper.accumulative_counts=2' in found['batch'].cure

    def test_never_suggests_more_than_what_did_not_fit(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 4), step_of(4, 0.1, 4.1)], full=6)
        assert found['batch'].values['largest'] == 5

    def test_suggests_at_least_one_image(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 4)], limit=1, full=3)
        assert found['batch'].status == 'fails' and found['batch'].values['suggested'] == 1

    def test_the_time_of_a_run_whose_step_limits(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(16, 0.5, 2)], loading=dict(rate=64.0))
        # 10 epochs of 31 steps; 1 s for 32 images, scaled; 0.5 s for loading them beside it
        assert found['run'].values == dict(steps=310, seconds=310.0, step=1.0, loading=0.5)
        assert 'scaled from 16 images' in found['limit'].text and 'the step limits' in found['limit'].text

    def test_the_time_of_a_run_whose_loader_limits(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2)], loading=dict(rate=8.0))
        assert found['run'].values['seconds'] == 310 * 4.0
        assert found['limit'].status == 'warning' and 'num_workers' in found['limit'].cure

    def test_steps_are_counted_from_the_images_where_the_loader_was_not_measured(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2)], images=1000)
        assert found['run'].values['steps'] == 310  # 1000 // 32, an unfinished batch is dropped
        assert 'run' in self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2)], images=0)

    def test_room_for_four_checkpoints_where_three_are_kept(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2)])
        assert found['disk'].values['needed'] == 4 * 2**20  # an old one goes when the new one is there
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2)])
        assert found['disk'].values['needed'] == 10 * 2**20

    def test_a_loss_that_is_not_finite(self, cfg):
        found = self.findings(cfg, [step_of(2, 0.1, 1), step_of(32, 1.0, 2, math.nan)])
        assert found['step'].status == 'fails' and 'nan' in found['step'].text

    def test_a_step_that_broke(self, cfg):
        found = self.findings(cfg, [], problems=dict(step='OutOfMemoryError: CUDA out of memory'))
        assert found['step'].status == 'fails' and 'batch_size' in found['step'].cure


class TestMeasuring:
    @pytest.mark.parametrize(
        ('found', 'asked', 'limit', 'full', 'expected'),
        [
            ([(2, 0.1, 1)], 32, None, None, 8),  # four times as many
            ([(2, 0.1, 1), (8, 0.2, 2)], 32, None, None, 32),
            ([(2, 0.1, 1), (32, 0.8, 2)], 32, None, None, None),  # it is measured
            ([(2, 60.0, 1)], 32, None, None, 3),  # too slow: two sizes nevertheless
            ([(2, 60.0, 1), (3, 90.0, 2)], 32, None, None, None),
            ([(2, 0.1, 1)], 2, None, None, 4),  # a line needs two sizes
            ([(2, 0.1, 1)], 32, None, 8, 5),  # between what fits and what does not
            ([(2, 0.1, 1), (4, 0.1, 1)], 32, None, 5, None),
            ([(2, 0.1, 1), (8, 0.1, 4)], 32, 12, None, 9),  # 0.4 of 12 GiB hold 9.6 images of 0.5 GiB
        ],
    )
    def test_sizes_of_batch(self, found, asked, limit, full, expected):
        steps = [measuring.Step(batch, seconds, gib * GIB, 1.0) for batch, seconds, gib in found]
        assert measuring._next_batch(steps, asked, limit and limit * GIB, full) == expected

    def test_a_process_that_was_killed(self, monkeypatch):
        line = measuring.MARK + json.dumps(dict(part='loading', result=dict(rate=1.0)))
        done = subprocess.CompletedProcess([], -9, f'noise\n{line}\n'.encode(), b'')
        monkeypatch.setattr(measuring.subprocess, 'run', lambda *args, **options: done)
        results, problems = measuring.measure(measuring.Job(CLS, {}, {}, loading=True))
        assert results == dict(loading=dict(rate=1.0))
        assert 'signal 9, as happens where memory runs out' in problems['step']


def test_a_page_that_cannot_be_written(tmp_path):
    args = Namespace(config=None, quick=True, work_dir=None, cfg_options=None, amp=False, amp_dtype=None)
    with pytest.raises(UserError, match='--json .* cannot be written'):
        diagnose(Namespace(**vars(args), json=tmp_path / 'not' / 'there.json'), None)


def test_classes_and_counts_are_those_of_the_data(mini_root, tmp_path):
    data = shutil.copytree(mini_root / 'imagenet', tmp_path / 'imagenet')
    settings = Settings(load_config(CLS, {'data_root': str(data), 'train_dataloader.batch_size': 8}))
    (finding,) = settings.data()
    assert finding.values == dict(images=dict(train=20, val=10), classes=10)
