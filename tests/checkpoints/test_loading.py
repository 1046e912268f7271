"""mmengine's own loaders read safely and take official files, by path and by URL; runs are resumed."""

import functools
import http.server
import os
import threading

import official_files as files
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from torch.utils.data import DataLoader, TensorDataset

from mmdwnet import DWNet
from mmdwnet.checkpoints import read_checkpoint, register_loaders
from mmdwnet.errors import UserError


@pytest.fixture
def official(tmp_path):
    """A folder with an official classification file."""
    folder = tmp_path / 'files'
    folder.mkdir()
    files.save_classifier(folder / 'dwnet_nano_224.pth', files.weights('dwnet', 'nano', 'cls'))
    return folder


@pytest.fixture
def server(official, tmp_path, monkeypatch):
    """A web server over that folder, and an empty download cache; the URL, and the paths asked for."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(official))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{web.server_port}', asked
        web.shutdown()


def test_mmengine_gets_our_keys_of_an_official_file(official):
    checkpoint = CheckpointLoader.load_checkpoint(str(official / 'dwnet_nano_224.pth'), map_location='cpu')
    assert set(checkpoint) == {'state_dict', 'meta'}  # mmseg's inferencer wants a meta
    assert set(checkpoint['state_dict']) >= {'head.fc.weight', 'backbone.norm_ln3.weight'}


def test_other_checkpoints_come_as_they_are(tmp_path):
    for content in ({'state_dict': {'a': torch.ones(1)}, 'meta': {'x': 1}}, {'conv.weight': torch.ones(1)}, [1]):
        torch.save(content, tmp_path / 'a.pth')
        assert CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth')) == content


def test_an_official_file_with_a_strange_key_is_refused(tmp_path):
    state_dict = {**files.weights('dwnet', 'nano', 'cls'), 'absolute_pos_embed': torch.ones(1)}
    files.save_classifier(tmp_path / 'a.pth', state_dict)
    with pytest.raises(UserError, match='a.pth: 1 of .* keys .*absolute_pos_embed'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))


class TestUrl:
    def test_is_downloaded_once_and_read_like_a_file(self, server, official):
        url, asked = server
        net = DWNet('nano', init_cfg=dict(type='Pretrained', checkpoint=f'{url}/dwnet_nano_224.pth'))
        net.init_weights()
        expected = files.weights('dwnet', 'nano', 'cls')['norm.weight']
        assert torch.equal(net.norm_ln3.weight, expected)
        (official / 'dwnet_nano_224.pth').unlink()
        load_checkpoint(DWNet('nano'), f'{url}/dwnet_nano_224.pth')
        assert len(asked) == 1

    def test_that_fails_is_one_line(self, server):
        url, _ = server
        for bad, match in (
            (f'{url}/none.pth', '404'),
            (f'{url}/', 'names no file'),
            ('http://127.0.0.1:9/a.pth', ''),
        ):
            with pytest.raises(UserError, match=f'{bad} .*{match}') as error:
                read_checkpoint(bad)
            assert '\n' not in str(error.value)

    def test_of_a_broken_file_says_how_to_download_it_again(self, server, official):
        (official / 'broken.pth').write_text('half a fi')
        with pytest.raises(UserError, match='hub.*broken.pth .of http.*delete it to download it again'):
            read_checkpoint(f'{server[0]}/broken.pth')


class Runs:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def dangerous(tmp_path):
    thing = Runs()
    thing.folder = str(tmp_path / 'created')
    torch.save({'state_dict': {'a': torch.ones(1)}, 'thing': thing}, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_what_stock_mmengine_would_run_is_refused_by_its_loader(dangerous):
    with pytest.raises(UserError, match='refused'):
        CheckpointLoader.load_checkpoint(str(dangerous))
    assert not (dangerous.parent / 'created').exists()


def test_loaders_that_trust(dangerous):
    register_loaders(trust=True)
    try:
        assert CheckpointLoader.load_checkpoint(str(dangerous))['state_dict']['a'] == 1
    finally:
        register_loaders()
    assert (dangerous.parent / 'created').exists()
    with pytest.raises(UserError, match='refused'):
        CheckpointLoader.load_checkpoint(str(dangerous))


class Line(BaseModel):
    """A model of one weight."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, x, mode='tensor'):
        y = self.norm(self.layer(x))
        return dict(loss=(y - 2 * x).square().mean()) if mode == 'loss' else [y]


class Error(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0.5)

    def compute_metrics(self, results):
        return dict(error=sum(results) / len(results))


def runner(work_dir, epochs, **kwargs):
    def data():
        return DataLoader(TensorDataset(torch.linspace(0, 1, 8).unsqueeze(1)), batch_size=4)

    hooks = [dict(type='EMAHook'), dict(type='EarlyStoppingHook', monitor='error', patience=99, rule='less')]
    schedulers = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='CosineAnnealingLR', T_max=9),
    ]
    schedulers += [
        dict(type='ReduceOnPlateauLR', monitor='error'),
        dict(type='OneCycleLR', total_steps=99, eta_max=0.1),
    ]
    checkpoints = dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='error', rule='less')
    return Runner(
        Line(),
        str(work_dir),
        train_dataloader=data(),
        val_dataloader=data(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        val_evaluator=Evaluator(Error()),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=schedulers,
        default_hooks=dict(checkpoint=checkpoints, logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=hooks,
        log_level='ERROR',
        experiment_name=f'{work_dir.name}{epochs}',
        **kwargs,
    )


def test_what_mmengine_saves_in_training_is_read_and_resumed_from(tmp_path):
    runner(tmp_path, 3).train()
    kept = sorted(tmp_path.glob('*.pth'))
    assert {'epoch_2.pth', 'epoch_3.pth'} < {path.name for path in kept} and len(kept) == 3  # and the best
    for path in kept:
        content = read_checkpoint(path)
        assert {'state_dict', 'ema_state_dict', 'message_hub'} <= content.keys()
        assert {'optimizer', 'param_schedulers'} <= content.keys() or path.name.startswith('best')
        assert len(content['message_hub']['log_scalars']['train/loss'].data[0]) == content['meta']['iter']
    resumed = runner(tmp_path, 5, resume=True)
    resumed.train()
    assert resumed.epoch == 5
    history = read_checkpoint(tmp_path / 'epoch_5.pth')['message_hub']['log_scalars']['train/loss']
    assert len(history.data[0]) == 10
