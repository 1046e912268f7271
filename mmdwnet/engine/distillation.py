"""Distillation: a classifier that learns from the labels and, through a token of its own, from another network.

Source: Touvron et al., "Training data-efficient image transformers & distillation through attention" (ICML 2021),
section 4: soft distillation, hard-label distillation, the distillation token, and the two heads joined for a
prediction.

mmpretrain has such a head for inference only; it is not imported here before a model is built or run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..checkpoints.fit import check_fit
from ..checkpoints.reading import weights_of
from ..errors import UserError
from ..registry import MODELS
from .config import load_config, task_of

# the paper's values: how much the teacher counts, and the temperature of the soft kind
WEIGHTS = dict(hard=0.5, soft=0.1)
TEMPERATURE = 3.0


@MODELS.register_module()
class DistilledClassifier(BaseModel):
    """An image classifier with a teacher: as mmpretrain's ImageClassifier, but the head hears the teacher too.

    The teacher sees the same images, after all augmentation. It is read when training starts (`init_weights`),
    so a checkpoint is tested without the teacher's files; it is in no state dict and in no optimizer.

    Args:
        backbone: config of a backbone whose last output is two tensors (B, C), of a class and a distillation
            token, such as IsotropicNet with `distillation_token=True`.
        head: config of a DistilledHead.
        teacher: `config`, a file or `mmpretrain::...`, and `checkpoint`, a path or URL, of any image classifier.
        neck: None, as the configs of ViTs write it: the head takes the tokens as they are.
        train_cfg: batch augmentations, as of ImageClassifier.
        data_preprocessor: as of ImageClassifier.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: there is a neck.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        teacher: dict,
        neck: None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        if neck is not None:
            raise ValueError(
                f'DistilledClassifier has no neck, its head takes two tokens: set neck=None, got {neck}'
            )
        data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', batch_augments=train_cfg) | (
            data_preprocessor or {}
        )
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)
        self.teacher = Teacher(**teacher)

    def init_weights(self) -> None:
        """Initialise the student and read the teacher; mmengine calls it when a training starts or is resumed."""
        super().init_weights()
        self._read_teacher()

    def forward(self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'tensor'):
        """Return scores (B, classes), a dict of losses, or the samples with predictions.

        Args:
            inputs: images, (B, 3, H, W), preprocessed.
            data_samples: mmpretrain's DataSample of each image.
            mode: 'tensor', 'loss' or 'predict'.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        feats = self.extract_feat(inputs)
        if mode == 'tensor':
            return self.head(feats)
        if mode == 'predict':
            return self.head.predict(feats, data_samples)
        self._read_teacher()
        return self.head.loss(feats, data_samples, self.teacher.scores(inputs))

    def extract_feat(self, inputs: Tensor) -> tuple:
        """Return the outputs of the backbone."""
        return self.backbone(inputs)

    def _read_teacher(self) -> None:
        if self.teacher.net is None:
            device = next(self.parameters()).device
            self.teacher.read(self.data_preprocessor, self.head.num_classes, device)

    def _apply(self, fn, *args, **kwargs):
        super()._apply(fn, *args, **kwargs)
        if self.teacher.net is not None:  # it goes where the student goes
            self.teacher.net._apply(fn)
        return self


@MODELS.register_module()
class DistilledHead(BaseModule):
    """Two linear classifiers: the class token's learns the labels, the distillation token's the teacher's scores.

    The loss is `(1 - weight) * loss(class token) + weight * distillation(distillation token)`. The prediction is
    the mean of the two softmaxes (section 4, "joint classifiers").

    Args:
        num_classes: of the labels and of the teacher.
        in_channels: of the tokens.
        loss: config of the loss of the labels, which are soft under Mixup and CutMix.
        distillation: 'hard', cross entropy with the teacher's decision, or 'soft', the Kullback-Leibler divergence
            from the teacher's softmax.
        weight: of the distillation; None is the paper's, 0.5 for 'hard' and 0.1 for 'soft'.
        temperature: of the softmaxes of 'soft'; None is the paper's 3.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: an argument is out of range, or a temperature with 'hard'.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: dict = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        distillation: str = 'hard',
        weight: float | None = None,
        temperature: float | None = None,
        init_cfg: dict | list | None = dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ):
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.fc = nn.Linear(in_channels, num_classes)
        self.fc_dist = nn.Linear(in_channels, num_classes)
        # mixed precision keeps in float32 what is called loss*
        self.loss_module = MODELS.build(loss)
        self.loss_distillation = DistillationLoss(distillation, temperature)
        self.weight = WEIGHTS[distillation] if weight is None else weight
        if not 0 <= self.weight <= 1:
            raise ValueError(f'weight of the distillation must lie in [0, 1], got {weight}')

    def scores(self, feats: tuple) -> tuple[Tensor, Tensor]:
        """Return the scores of the class and of the distillation token, (B, classes) each."""
        states = feats[-1]
        if isinstance(states, Tensor) or len(states) != 2:
            raise ValueError(
                'DistilledHead takes the states of a class and of a distillation token, and the backbone returns '
                'something else: set distillation_token=True of IsotropicNet'
            )
        return self.fc(states[0]), self.fc_dist(states[1])

    def forward(self, feats: tuple) -> Tensor:
        """Return (B, classes), the logarithm of the mean of the two softmaxes: its softmax is that mean."""
        both = torch.stack(self.scores(feats)).float().log_softmax(-1)
        return both.logsumexp(0) - math.log(2)

    def loss(self, feats: tuple, data_samples: Sequence, teacher_scores: Tensor) -> dict[str, Tensor]:
        """Return the two losses, weighted: their sum is what is minimised.

        Args:
            feats: outputs of the backbone.
            data_samples: mmpretrain's DataSample of each image, with a label or, of a mixed image, soft ones.
            teacher_scores: (B, classes).
        """
        scores, dist_scores = self.scores(feats)
        soft = 'gt_score' in data_samples[0]
        labels = [sample.gt_score if soft else sample.gt_label for sample in data_samples]
        target = torch.stack(labels) if soft else torch.cat(labels)
        return dict(
            loss_class=(1 - self.weight) * self.loss_module(scores, target, avg_factor=len(scores)),
            loss_distillation=self.weight * self.loss_distillation(dist_scores, teacher_scores),
        )

    def predict(self, feats: tuple, data_samples: Sequence | None = None) -> list:
        """Return the samples, or new ones, with `pred_score` (classes,) and `pred_label`."""
        from mmpretrain.structures import DataSample

        scores = self(feats).exp()
        samples = [DataSample() for _ in scores] if data_samples is None else data_samples
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        return list(samples)


class DistillationLoss(nn.Module):
    """How far a student's scores are from a teacher's, averaged over the images.

    hard: cross entropy with the class of the teacher's highest score (section 4, equation 3).
    soft: `T^2 KL(softmax(teacher / T) || softmax(student / T))` (section 4, equation 2). The official code divides
    by the number of classes as well; the equation does not.

    Args:
        kind: 'hard' or 'soft'.
        temperature: T of 'soft'; None is 3.

    Raises:
        ValueError: an unknown kind, a temperature that is not positive, or one with 'hard'.
    """

    def __init__(self, kind: str, temperature: float | None = None):
        super().__init__()
        if kind not in WEIGHTS:
            raise ValueError(f'distillation must be one of {", ".join(WEIGHTS)}, got {kind!r}')
        if kind == 'hard' and temperature is not None:
            raise ValueError(f"distillation='hard' has no temperature, got {temperature}: leave it out")
        self.kind = kind
        self.temperature = TEMPERATURE if temperature is None else temperature
        if self.temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')

    def forward(self, scores: Tensor, teacher_scores: Tensor) -> Tensor:
        """Return a scalar for scores of (B, classes) each."""
        if self.kind == 'hard':
            return F.cross_entropy(scores, teacher_scores.argmax(1))
        student, teacher = ((s / self.temperature).log_softmax(1) for s in (scores, teacher_scores))
        return self.temperature**2 * F.kl_div(student, teacher, reduction='batchmean', log_target=True)


class Teacher:
    """A trained classifier that answers and does not learn: frozen, and always in eval mode.

    It is no module, so that a student that holds one does not count it among its own parts; a copy of the student
    (its moving average) has the same teacher.

    Args:
        config: of the classifier: a file, or `mmpretrain::...`.
        checkpoint: path or URL of its weights.
    """

    def __init__(self, config: str, checkpoint: str):
        self.config, self.checkpoint = config, checkpoint
        self.net: _Teaching | None = None

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self

    def read(self, preprocessor: nn.Module, num_classes: int, device: torch.device) -> None:
        """Build the classifier and read its weights.

        Args:
            preprocessor: the student's, for images normalised in another way than the teacher's.
            num_classes: those of the student.
            device: where it goes.

        Raises:
            UserError: the config or the checkpoint cannot be read, they do not fit each other, or the classes are
                not as many as the student's.
        """
        cfg = _read_config(self.config)
        model = copy.deepcopy(cfg.model)
        model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        model.setdefault('_scope_', 'mmpretrain')
        classifier = MODELS.build(model)
        weights = weights_of(CheckpointLoader.load_checkpoint(self.checkpoint, 'cpu', 'silent'))
        if weights is None:
            raise UserError(f'model.teacher.checkpoint={self.checkpoint} holds no weights: expected a checkpoint')
        try:
            check_fit(classifier, {key.removeprefix('module.'): value for key, value in weights.items()})
        except ValueError as error:
            raise UserError(f'model.teacher.checkpoint={self.checkpoint}: {error}') from error
        classes = getattr(classifier.head, 'num_classes', num_classes)
        if classes != num_classes:
            raise UserError(
                f'the teacher {self.config} has {classes} classes and the student {num_classes}: choose a teacher '
                'of the same classes'
            )
        net = _Teaching(classifier, preprocessor)
        self.net = net.eval().requires_grad_(False).to(device)

    def scores(self, images: Tensor) -> Tensor:
        """Return (B, classes) for the student's images, (B, 3, H, W), without a gradient."""
        with torch.no_grad():
            return self.net(images)


class _Teaching(nn.Module):
    """A classifier for images that were normalised for another one."""

    def __init__(self, classifier: nn.Module, theirs: nn.Module):
        super().__init__()
        self.classifier = classifier
        ours = classifier.data_preprocessor
        (our_mean, our_std), (mean, std) = _normalisation(ours), _normalisation(theirs)
        self.flip = bool(ours.to_rgb) != bool(theirs.to_rgb)
        # in the teacher's order of channels: x_teacher = x_student * scale + shift
        mean, std = (mean.flip(0), std.flip(0)) if self.flip else (mean, std)
        self.register_buffer('scale', std / our_std)
        self.register_buffer('shift', (mean - our_mean) / our_std)
        self.same = not self.flip and bool((self.scale == 1).all()) and not self.shift.any()

    def forward(self, images: Tensor) -> Tensor:
        if not self.same:
            images = (images.flip(1) if self.flip else images) * self.scale + self.shift
        return self.classifier(images, mode='tensor')


def _normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, (3, 1, 1) each, in the order that the preprocessor puts them in."""
    mean = getattr(preprocessor, 'mean', None)
    if mean is None:
        return torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    return tuple(value.detach().cpu().expand(3, 1, 1) for value in (mean, preprocessor.std))


def _read_config(config: str) -> Config:
    package, inside, _ = config.partition('::')
    if not inside:
        cfg = load_config(config)
    elif find_spec(package) is None:
        raise UserError(f'model.teacher.config={config}: {package} is not installed')
    else:
        try:
            cfg = get_config(config)
        except Exception as error:  # a config is a program: anything can go wrong in it
            raise UserError(f'model.teacher.config={config} cannot be read: {error}') from error
    if task_of(cfg, config) != 'cls':
        raise UserError(f'model.teacher.config={config} is no classifier: expected a config of mmpretrain')
    return cfg
