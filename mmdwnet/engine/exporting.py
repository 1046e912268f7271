"""Export a trained classifier, or a DWNet backbone alone, to ONNX, for every batch and every image size.

The exporter is torch's own, the one that starts from torch.export. A file is written after onnx's checker and
shape inference have passed it, and onnxruntime has agreed with torch on three sizes.
"""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..backbones import DWNet
from ..checkpoints.writing import check_target, write_atomically
from ..errors import UserError
from ..version import __version__
from .config import task_of
from .models import largest_difference, load_dwnet_model, random_images
from .onnx_form import to_onnx_form

TOLERANCE = 1e-4  # of the largest value of an output
# batch, height, width: a usual one, one that no stride divides, one smaller than the last stage's stride
CHECKED_SIZES = ((1, 224, 224), (2, 190, 131), (3, 30, 65))
OPSETS = range(18, 26)  # what the exporter of torch 2.11 writes: 18 by itself, the others by conversion
NEEDED_TORCH = (2, 9)  # which made this exporter the default


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    Args:
        backbone_only: of a classifier too; of a detector or segmentor nothing else is exported.
        scores: end a classifier with a softmax.
        normalize: take pixels from 0 to 255 and normalise them inside, as the data preprocessor would.
        opset: version of ONNX's operators, 18 to 25.
    """

    backbone_only: bool = False
    scores: bool = False
    normalize: bool = False
    opset: int = OPSETS[0]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        outputs: their names.
        nodes: how many the graph has.
        differences: of onnxruntime from torch at each size, as a part of the largest value of an output.
    """

    outputs: tuple[str, ...]
    nodes: int
    differences: dict[tuple[int, int, int], float]


def export_onnx(
    config: str,
    checkpoint: str,
    target: str,
    options: ExportOptions = ExportOptions(),
    overrides: dict[str, Any] | None = None,
    trust: bool = False,
    force: bool = False,
) -> Exported:
    """Write an ONNX file of a trained model.

    Its input is `images`, (batch, channels, height, width), float32, free in all but the channels. Its output is
    `logits`, or `scores`, (batch, classes), of a classifier, else the maps of the backbone, `stage0` to `stage3`.
    Its metadata says what the images must be and what the classes are called.

    Args:
        config: of the model.
        checkpoint: its weights, path or URL.
        target: file to write, a .onnx.
        options: what to export.
        overrides: of the config, as in training.
        trust: unpickle a checkpoint that needs it, which executes code from it.
        force: overwrite the target.

    Raises:
        UserError: something does not fit, a package is missing, or onnxruntime disagrees with torch.
    """
    path = check_target(target, '.onnx', force=force)
    _require_packages()
    cfg, model, meta = load_dwnet_model(config, checkpoint, overrides, trust)
    notes = _notes(cfg, meta, options)
    net = _net_to_export(model, task_of(cfg), notes, options)
    proto = _to_proto(net, options.opset)
    for key, value in {'config': Path(config).stem, 'mmdwnet_version': __version__, **notes}.items():
        proto.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    data = proto.SerializeToString()
    differences = _differences(net, data)
    if not all(difference <= TOLERANCE for difference in differences.values()):  # nan too
        raise UserError(
            f'{target}: onnxruntime differs from torch by {max(differences.values()):.1e} of the outputs, more '
            f'than {TOLERANCE}: nothing was written; are the weights of {checkpoint} finite?'
        )
    write_atomically(path, lambda file: file.write_bytes(data))
    return Exported(net.outputs, len(proto.graph.node), differences)


class _Net(nn.Module):
    """What is exported, with everything that belongs inside.

    Args:
        body: a classifier of mmpretrain, or a DWNet.
        outputs: names of what it returns.
        scores: softmax at the end.
        mean, std: of the pixels, per channel, or None to take normalised images.
    """

    def __init__(
        self, body: nn.Module, outputs: tuple[str, ...], scores: bool, mean: list | None, std: list | None
    ):
        super().__init__()
        self.body, self.outputs, self.scores = body, outputs, scores
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, None if values is None else torch.tensor(values).float().view(-1, 1, 1))

    @property
    def backbone(self) -> DWNet:
        return self.body if isinstance(self.body, DWNet) else self.body.backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.mean is not None:
            images = (images - self.mean) / self.std
        outs = self.body(images)  # of a classifier: its logits
        outs = outs if isinstance(outs, tuple) else (outs,)
        return tuple(out.softmax(1) for out in outs) if self.scores else outs


def _net_to_export(model: nn.Module, task: str, notes: dict[str, Any], options: ExportOptions) -> _Net:
    if options.normalize and 'mean' not in notes:
        raise UserError('--normalize: the config has no mean and std in its data_preprocessor')
    normalization = (notes['mean'], notes['std']) if options.normalize else (None, None)
    if task != 'cls' or options.backbone_only:
        if options.scores:
            raise UserError('--scores: a backbone alone has none: expected a config of a classifier, whole')
        outputs = tuple(f'stage{i}' for i in model.backbone.out_indices)
        return _Net(model.backbone, outputs, False, *normalization)
    if getattr(model, 'head', None) is None:
        raise UserError('the config has no model.head: --backbone exports the backbone alone')
    if options.scores:
        from mmpretrain.models import ClsHead

        if not isinstance(model.head, ClsHead):
            raise UserError(f'--scores: the classes of a {type(model.head).__name__} do not exclude each other')
    return _Net(model, ('scores' if options.scores else 'logits',), options.scores, *normalization)


def _notes(cfg: Config, meta: dict[str, Any], options: ExportOptions) -> dict[str, Any]:
    """What a program that runs the file has to know and its graph does not say."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    rgb = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')  # images are loaded as BGR
    notes: dict[str, Any] = {'channel_order': 'RGB' if rgb else 'BGR'}
    if preprocessor.get('mean') is not None:
        notes.update(mean=list(preprocessor['mean']), std=list(preprocessor['std']))
        notes['normalization'] = 'inside' if options.normalize else 'outside'
    dataset = meta.get('dataset_meta') or meta
    classes = dataset.get('classes') or dataset.get('CLASSES')
    return {**notes, 'classes': list(classes)} if classes else notes


def _require_packages() -> None:
    missing = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if find_spec(name) is None]
    if missing:
        raise UserError(
            f'the export to ONNX needs {", ".join(missing)}, not installed here: run `pip install "mmdwnet[onnx]"`'
        )
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < NEEDED_TORCH:
        raise UserError(
            f'the export to ONNX needs torch {".".join(map(str, NEEDED_TORCH))} or newer, whose exporter follows '
            f'free image sizes; torch {torch.__version__} is installed: run it in an environment of its own'
        )


def _to_proto(net: _Net, opset: int) -> Any:
    """The net as an onnx.ModelProto that onnx's checker has passed."""
    import onnx

    exportable = copy.deepcopy(net)
    to_onnx_form(exportable.backbone)
    images = random_images(net.backbone.patch_embed.proj.in_channels, 2, 61, 45)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            exportable,
            (images,),
            dynamo=True,
            input_names=['images'],
            output_names=list(net.outputs),
            dynamic_shapes=({0: 'batch', 2: 'height', 3: 'width'},),
            opset_version=opset,
            verbose=False,
        )
    proto = program.model_proto
    written = {entry.domain: entry.version for entry in proto.opset_import}
    if written != {'': opset}:  # a conversion that fails is only logged
        raise UserError(
            f'opset {opset}: torch {torch.__version__} cannot write it; expected one from {OPSETS[0]} on, its own'
        )
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField('metadata_props')  # source lines, and paths of this machine
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _differences(net: _Net, data: bytes) -> dict[tuple[int, int, int], float]:
    """Run a file's bytes in onnxruntime and the net in torch, on images of every size, and compare."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
    differences = {}
    for size in CHECKED_SIZES:
        images = random_images(net.backbone.patch_embed.proj.in_channels, *size)
        if net.mean is not None:
            images = images * net.std + net.mean
        with torch.no_grad():
            expected = net(images)
        found = session.run(None, {'images': images.numpy()})
        differences[size] = largest_difference(expected, [torch.from_numpy(array) for array in found])
    return differences
