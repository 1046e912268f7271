"""tools/model_converters/export_onnx.py: onnxruntime computes what torch does, for every batch and size."""

import json
from pathlib import Path

import pytest
import torch
from torch_features import needs_onnx_exporter

from mmdwnet.engine import exporting
from mmdwnet.engine.deploying import deploy_checkpoint
from mmdwnet.engine.exporting import ExportOptions, export_onnx
from mmdwnet.engine.models import load_dwnet_model
from mmdwnet.errors import UserError

onnx = pytest.importorskip('onnx', reason='the export needs onnx: pip install "mmdwnet[onnx]"')
onnxruntime = pytest.importorskip('onnxruntime', reason='the export needs onnxruntime')
pytest.importorskip('onnxscript', reason='the export needs onnxscript')

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'tools/model_converters/export_onnx.py'
MIXERS = {
    'static': dict(type='DepthwiseConv'),
    'dynamic': dict(type='DynamicDepthwiseConv', kernel_size=5),
    'inhomogeneous': dict(type='InhomogeneousDynamicDepthwiseConv', kernel_size=5, groups=4),
}
# none of those that the tool itself checks; batches 1 to 3, odd, not square, a single pixel
SIZES = ((1, 64, 64), (2, 33, 130), (3, 57, 20), (1, 1, 1))
MULTI_LABEL = dict(_delete_=True, type='MultiLabelLinearClsHead', num_classes=10, in_channels=16)
META = dict(dataset_meta=dict(classes=['nut', 'fig']))


@pytest.fixture(scope='module')
def network(tmp_path_factory, make_checkpoint):
    """Config and checkpoint of a small classifier or segmentor: two stages, 8 and 16 channels."""
    folder, made = tmp_path_factory.mktemp('networks'), {}

    def network(mixer, base='cls', **backbone):
        name = f'{base}-{mixer}'
        if name not in made:
            sizes = dict(type='mmdwnet.DWNet', arch=dict(embed_dims=8, depths=(1, 1)))
            backbone = dict(_delete_=True, mixer=MIXERS[mixer], **sizes, **backbone)
            model = dict(backbone=backbone, **(dict(head=dict(in_channels=16)) if base == 'cls' else {}))
            stock = ROOT / f'configs/mini/dwnet-nano_{base}_mini.py'
            config = folder / f'{name}.py'
            config.write_text(f'_base_ = {str(stock)!r}\nmodel = {model!r}\n')
            made[name] = str(config), make_checkpoint(config, folder / f'{name}.pth', META)
        return made[name]

    return network


def assert_equal_to_torch(path, net, prepare=lambda images: images):
    """Run a file in onnxruntime and a function in torch, on images of several sizes; outputs to 1e-4."""
    session = onnxruntime.InferenceSession(path)
    for i, size in enumerate(SIZES):
        images = torch.randn(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(i))
        with torch.no_grad():
            expected = net(images)
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(None, {'images': prepare(images).numpy()})
        assert len(found) == len(expected)
        for a, b in zip(expected, found, strict=True):
            assert a.shape == b.shape and a.abs().max() > 1e-3
            assert (a - torch.from_numpy(b)).abs().max() <= 1e-4 * a.abs().max(), size


def shape(value):
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


@needs_onnx_exporter
@pytest.mark.parametrize('mixer', MIXERS)
def test_a_classifier_with_every_mixer(mixer, network, tmp_path):
    config, checkpoint = network(mixer)
    path = str(tmp_path / 'net.onnx')
    done = export_onnx(config, checkpoint, path)
    assert done.outputs == ('logits',)
    assert len(done.differences) == 3 and all(0 < value <= 1e-4 for value in done.differences.values())
    assert_equal_to_torch(path, load_dwnet_model(config, checkpoint)[1])
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [entry.version for entry in proto.opset_import] == [18]
    assert [shape(value) for value in proto.graph.input] == [['batch', 3, 'height', 'width']]
    assert [shape(value) for value in proto.graph.output] == [['batch', 10]]
    left = 2 if mixer == 'inhomogeneous' else 0  # one a block: the others are folded
    assert sum(node.op_type == 'BatchNormalization' for node in proto.graph.node) == left
    assert b'.py' not in proto.SerializeToString()  # source lines of this machine


@needs_onnx_exporter
@pytest.mark.parametrize(
    'name',
    [
        'dwnet-tiny_8xb128',
        pytest.param('dynamic-dwnet-tiny_8xb128', marks=pytest.mark.slow),
        pytest.param('idynamic-dwnet-tiny_8xb64-accum2', marks=pytest.mark.slow),
    ],
)
def test_the_published_networks(name, make_checkpoint, tmp_path):
    """At their own sizes: 7 x 7 kernels, 32 groups, 1000 classes."""
    config = ROOT / f'configs/imagenet/{name}_in1k.py'
    checkpoint = make_checkpoint(config, tmp_path / 'net.pth')
    done = export_onnx(str(config), checkpoint, str(tmp_path / 'net.onnx'))
    assert len(done.differences) == 3 and all(0 < value <= 1e-4 for value in done.differences.values())
    onnx.checker.check_model(str(tmp_path / 'net.onnx'), full_check=True)


@needs_onnx_exporter
def test_the_maps_of_a_segmentors_backbone_with_window_padding(network, tmp_path):
    """The dynamic mixer pools over the padding, too."""
    config, checkpoint = network('dynamic', 'upernet', window_padding=True, out_indices=(0, 1))
    path = str(tmp_path / 'net.onnx')
    assert export_onnx(config, checkpoint, path).outputs == ('stage0', 'stage1')
    assert_equal_to_torch(path, load_dwnet_model(config, checkpoint)[1].backbone)


@needs_onnx_exporter
def test_scores_of_pixels_from_a_deployed_checkpoint(network, tmp_path):
    config, checkpoint = network('static')
    deploy_checkpoint(config, checkpoint, str(tmp_path / 'small.pth'))
    path = str(tmp_path / 'net.onnx')
    options = ExportOptions(scores=True, normalize=True, opset=20)
    done = export_onnx(str(tmp_path / 'small.py'), str(tmp_path / 'small.pth'), path, options)
    assert done.outputs == ('scores',)
    cfg, model, _ = load_dwnet_model(config, checkpoint)
    mean, std = (torch.tensor(cfg.data_preprocessor[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    assert_equal_to_torch(
        path, lambda images: model(images).softmax(1), prepare=lambda images: images * std + mean
    )
    proto = onnx.load(path)
    assert [entry.version for entry in proto.opset_import] == [20]
    notes = {prop.key: prop.value for prop in proto.metadata_props}
    assert json.loads(notes['classes']) == ['nut', 'fig']
    assert json.loads(notes['mean']) == cfg.data_preprocessor.mean
    assert json.loads(notes['std']) == cfg.data_preprocessor.std
    assert notes['channel_order'] == 'RGB' and notes['normalization'] == 'inside' and notes['config'] == 'small'


@needs_onnx_exporter
def test_the_command(network, run_python, tmp_path):
    config, checkpoint = network('static')
    out = tmp_path / 'net.onnx'
    arguments = [
        TOOL,
        config,
        checkpoint,
        out,
        '--backbone',
        '--cfg-options',
        'model.backbone.window_padding=True',
    ]
    done = run_python(*arguments)
    assert done.returncode == 0, done.stderr
    assert f'{out}: stage1; opset 18' in done.stdout and done.stdout.count('differs from torch by') == 3
    assert [path.name for path in tmp_path.iterdir()] == ['net.onnx']
    _, model, _ = load_dwnet_model(config, checkpoint, {'model.backbone.window_padding': True})
    assert_equal_to_torch(str(out), model.backbone)
    done = run_python(*arguments)
    assert done.returncode == 2 and 'is there already' in done.stderr and done.stderr.count('\n') == 1


@needs_onnx_exporter
def test_a_file_that_onnxruntime_disagrees_with_is_not_written(network, tmp_path):
    config, checkpoint = network('static')
    content = torch.load(checkpoint)
    content['state_dict']['backbone.stages.0.blocks.0.bn.running_var'].fill_(float('nan'))
    torch.save(content, tmp_path / 'broken.pth')
    with pytest.raises(UserError, match='differs from torch by nan.*nothing was written'):
        export_onnx(config, str(tmp_path / 'broken.pth'), str(tmp_path / 'net.onnx'))
    assert [path.name for path in tmp_path.iterdir()] == ['broken.pth']


@needs_onnx_exporter
@pytest.mark.parametrize(
    ('base', 'target', 'options', 'overrides', 'words'),
    [
        ('cls', 'net.pth', {}, {}, r'ends in \.onnx'),
        ('cls', 'none/net.onnx', {}, {}, 'no folder'),
        ('cls', 'net.onnx', dict(scores=True, backbone_only=True), {}, '--scores: a backbone alone has none'),
        ('upernet', 'net.onnx', dict(scores=True), {}, '--scores: a backbone alone has none'),
        ('cls', 'net.onnx', dict(scores=True), {'model.head': MULTI_LABEL}, 'do not exclude'),
        ('cls', 'net.onnx', dict(normalize=True), {'data_preprocessor.mean': None}, 'no mean and std'),
        ('cls', 'net.onnx', dict(opset=13), {}, 'opset 13: .* cannot write it; expected one from 18'),
        ('cls', 'net.onnx', {}, {'model.backbone.mixer': 'DynamicDepthwiseConv'}, 'does not fit'),
    ],
)
def test_what_is_asked_for_wrongly_is_named(base, target, options, overrides, words, network, tmp_path):
    config, checkpoint = network('static', base)
    with pytest.raises(UserError, match=words) as caught:
        export_onnx(config, checkpoint, str(tmp_path / target), ExportOptions(**options), overrides)
    assert '\n' not in str(caught.value) and not list(tmp_path.iterdir())


def test_missing_packages_and_an_old_torch_are_named(network, tmp_path, monkeypatch):
    config, checkpoint = network('static')
    target = str(tmp_path / 'net.onnx')
    with monkeypatch.context() as patch:
        patch.setattr(exporting, 'find_spec', lambda name: None if name == 'onnxscript' else name)
        with pytest.raises(UserError, match=r'needs onnxscript, not installed .*mmdwnet\[onnx\]'):
            export_onnx(config, checkpoint, target)
    monkeypatch.setattr(torch, '__version__', '2.1.2+cpu')
    with pytest.raises(UserError, match='needs torch 2.9 or newer.*torch 2.1.2'):
        export_onnx(config, checkpoint, target)
