"""One measurement of a net: which, at what, in which precision, layout and compile mode; and the call it times."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import UserError
from .cuda_graphs import captured
from .nets import NETS, NUM_CLASSES
from .timing import Bundle, Run

TASKS = ('inference', 'training')
LAYOUTS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
# of torch.compile; 'frozen': its default mode with the weights as constants, packed once, for inference.
# 'cuda-graph' compiles nothing: a recorded call is replayed, so that the host's launches take no time
CUDA_GRAPH = 'cuda-graph'
COMPILE_MODES = ('none', 'default', 'max-autotune', 'frozen', CUDA_GRAPH)
DEVICES = ('cpu', 'cuda')


@dataclass(frozen=True)
class Precision:
    """A precision: the dtype of weights and images, and that of autocast, if any."""

    weights: torch.dtype
    autocast: torch.dtype | None = None


PRECISIONS = {
    'float32': Precision(torch.float32),
    'bfloat16-autocast': Precision(torch.float32, torch.bfloat16),
    'float16-autocast': Precision(torch.float32, torch.float16),
    'bfloat16': Precision(torch.bfloat16),
    'float16': Precision(torch.float16),
}


@dataclass(frozen=True)
class Case:
    """A measurement of a net.

    Args:
        net: a name of `nets.NETS`.
        task: 'inference' (eval mode, inference mode) or 'training' (train mode with drop path: forward pass,
            cross-entropy, backward pass).
        precision: a name of `PRECISIONS`.
        layout: memory format of the images and of the convolutions' weights when the net gets them; what it does
            inside is its own affair (this project's nets turn to channels_last by themselves).
        compile: a name of `COMPILE_MODES`: of torch.compile, a CUDA graph, or 'none'.
        batch: images per call.
        size: side of the images, in pixels.
        device: 'cpu' or 'cuda'.
        optimizer: whether a training step ends with a step of AdamW; without it gradients are dropped.
    """

    net: str
    task: str = 'inference'
    precision: str = 'float32'
    layout: str = 'contiguous'
    compile: str = 'none'
    batch: int = 8
    size: int = 224
    device: str = 'cpu'
    optimizer: bool = False

    @property
    def label(self) -> str:
        """The net's label, and what is not the default of the options that one group may mix."""
        return label_with(NETS[self.net].label, self.layout, self.compile, 'contiguous')

    @property
    def family(self) -> str:
        return NETS[self.net].family

    @property
    def items(self) -> int:
        """What a call works through: images."""
        return self.batch

    @property
    def optional(self) -> bool:
        return NETS[self.net].optional

    def skipped(self) -> str | None:
        """Why this cannot be measured here, in a few words, without its being a failure; None if it can."""
        net = NETS[self.net]
        if self.task == 'training' and not net.trains:
            return 'a deployed net does not train: skipped'
        if self.task == 'training' and self.compile == 'frozen':
            return 'frozen weights do not train: skipped'
        return net.missing

    def as_json(self) -> dict:
        return asdict(self)


def label_with(label: str, layout: str, compile: str, usual_layout: str) -> str:
    """Return a label with the layout and compile mode behind it, where they are not the usual ones."""
    how = {'none': [], CUDA_GRAPH: ['as a CUDA graph']}.get(compile, [f'compiled {compile}'])
    return ', '.join([label, *[layout] * (layout != usual_layout), *how])


def check_device(device: str, precision: str, compile: str = 'none') -> None:
    """Raise UserError where the device is not there or lacks the precision or the compile mode."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('no GPU: torch sees none; expected a CUDA device, or --device cpu')
    if device == 'cpu' and 'float16' in precision.split('-'):
        raise UserError(f'--precisions {precision} needs a GPU: on a CPU expected float32 or a bfloat16 one')
    if device == 'cpu' and compile == CUDA_GRAPH:
        others = ', '.join(mode for mode in COMPILE_MODES if mode != CUDA_GRAPH)
        raise UserError(f'--compile {CUDA_GRAPH} needs a GPU: on a CPU expected one of {others}')


class Workshop:
    """Builds what cases need, each module once: cases that differ in batch or autocast alone share one."""

    def __init__(self) -> None:
        self._modules: dict[tuple, nn.Module] = {}

    def prepare(self, case: Case) -> Run | Bundle:
        """Return the call that a case times."""
        call = self._call(case)
        return captured([call]) if case.compile == CUDA_GRAPH else call

    def _call(self, case: Case) -> Run:
        precision, device = PRECISIONS[case.precision], torch.device(case.device)
        module = self._module(case, precision)
        images = torch.randn(case.batch, 3, case.size, case.size, device=device, dtype=precision.weights)
        images = images.contiguous(memory_format=LAYOUTS[case.layout])
        autocast = contextlib.nullcontext
        if precision.autocast is not None:
            autocast = lambda: torch.autocast(device.type, precision.autocast)  # noqa: E731
        if case.task == 'inference':
            return _inference(module, images, autocast)
        optimizer = None
        if case.optimizer:
            optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, capturable=case.compile == CUDA_GRAPH)
        return _training_step(module, images, autocast, optimizer)

    def _module(self, case: Case, precision: Precision) -> nn.Module:
        compiled = case.compile not in ('none', CUDA_GRAPH)
        # a compiled module holds a graph for every precision: they would share one table of graphs
        key = (
            case.net, case.task, precision.weights, case.layout, case.compile, case.size, case.device,
            case.optimizer, compiled and (case.precision, case.batch),
        )  # fmt: skip
        if key not in self._modules:
            torch.manual_seed(0)
            module = NETS[case.net].build(case.size)
            module.train(case.task == 'training')  # what it returns is None in some libraries
            module.to(device=case.device, dtype=precision.weights)
            if case.layout == 'channels_last':
                module.to(memory_format=torch.channels_last)
            if compiled:
                module = _compiled(module, case.compile)
            self._modules[key] = module
        return self._modules[key]


def _compiled(module: nn.Module, mode: str) -> Callable[[torch.Tensor], object]:
    if mode != 'frozen':
        return torch.compile(module, mode=None if mode == 'default' else mode, dynamic=False)
    compiled = torch.compile(module, dynamic=False)

    def run(images: torch.Tensor) -> object:
        # a setting of the process, read when a graph is compiled; as an option of torch.compile it does nothing
        # (torch 2.11)
        with torch._inductor.config.patch(freezing=True):
            return compiled(images)

    return run


def _inference(module: nn.Module, images: torch.Tensor, autocast: Callable) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode(), autocast():
            return module(images)

    return run


def _training_step(
    module: nn.Module, images: torch.Tensor, autocast: Callable, optimizer: torch.optim.Optimizer | None
) -> Callable[[], object]:
    targets = torch.arange(len(images), device=images.device) % NUM_CLASSES

    def run() -> None:
        with autocast():
            logits = module(images)
        # no loss scaling with float16: it changes values, not the work
        F.cross_entropy(logits.float(), targets).backward()
        if optimizer is not None:
            optimizer.step()
        module.zero_grad(set_to_none=True)

    return run
