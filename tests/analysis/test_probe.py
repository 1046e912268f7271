"""The place of every mixer, as it is documented, and as the probe measures it; and that the probe is not blind."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdwnet import mixers
from mmdwnet.analysis.probe import Subject, module_subject, probe, subject_of, weights_at
from mmdwnet.analysis.probe.graph import ARROWS, Kind, arrows_between, kind_of
from mmdwnet.analysis.probe.subjects import randomised
from mmdwnet.errors import UserError
from mmdwnet.mixers.base import TokenMixer

CHANNELS = 8

# Mixers of 8 channels: positions that an output sums, how many channels it sums, weights shared across positions,
# among how many channels, what has dynamic weights of its own, which positions they are made from, a rank bounded
# by the form of the weights, and the positions and the channels that the whole mixer connects.
# fmt: off
PLACES = {
    'Convolution': ('sliding 3x3', 8, 'yes', 1, 'static', 'nothing', False, 'sliding 3x3', 8),
    'Convolution:kernel_size=1': ('point', 8, 'yes', 1, 'static', 'nothing', False, 'point', 8),
    'DepthwiseConv': ('sliding 7x7', 1, 'yes', 1, 'static', 'nothing', False, 'sliding 7x7', 8),
    'DepthwiseConv:kernel_size=5': ('sliding 5x5', 1, 'yes', 1, 'static', 'nothing', False, 'sliding 5x5', 8),
    'DepthwiseGlobalAttention:head_channels=4':
        ('point', 1, 'yes', 1, 'per image', 'global', False, 'global', 8),
    'DepthwiseWindowAttention:head_channels=4':
        ('point', 1, 'within windows', 1, 'per window', 'window 7x7', False, 'window 7x7', 8),
    'DepthwiseWindowAttention:head_channels=4,shift=True,window_size=5':
        ('point', 1, 'within windows', 1, 'per window', 'window 5x5', False, 'window 5x5', 8),
    'DynamicDepthwiseConv': ('sliding 7x7', 1, 'yes', 1, 'per image', 'global', False, 'global', 8),
    'DynamicLightweightConvolution:share_channels=4':
        ('sliding 7x7', 1, 'no', 4, 'per position', 'point', False, 'sliding 7x7', 8),
    'GlobalAttention:head_channels=4': ('global', 1, 'no', 4, 'per position', 'global', False, 'global', 8),
    'GlobalAttention:head_channels=8,relative_position=True':
        ('global', 1, 'no', 8, 'per position', 'global', False, 'global', 8),
    # without a softmax the weights are products of no more numbers than a head has channels
    'GlobalAttention:head_channels=4,activation=identity':
        ('global', 1, 'no', 4, 'per position', 'global', True, 'global', 8),
    'GlobalAttention:head_channels=4,activation=scaling-relu':
        ('global', 1, 'no', 4, 'per position', 'global', False, 'global', 8),
    'GlobalAttention:head_channels=4,activation=layernorm':
        ('global', 1, 'no', 4, 'per position', 'global', True, 'global', 8),
    'InhomogeneousDynamicDepthwiseConv:groups=4':
        ('sliding 7x7', 1, 'no', 2, 'per position', 'point', False, 'sliding 7x7', 8),
    'Involution:groups=2': ('sliding 7x7', 1, 'no', 4, 'per position', 'point', False, 'sliding 7x7', 8),
    'KernelBankConvolution': ('sliding 3x3', 8, 'yes', 1, 'per image', 'global', False, 'global', 8),
    'LightweightConvolution:share_channels=4':
        ('sliding 7x7', 1, 'yes', 4, 'static', 'nothing', False, 'sliding 7x7', 8),
    'LinformerAttention:head_channels=4,projected=16':
        ('global', 1, 'no', 4, 'per position', 'global', True, 'global', 8),
    'LocalMlp:share_channels=1':
        ('window 7x7', 1, 'between windows', 1, 'static', 'nothing', False, 'window 7x7', 8),
    'LocalMlp:share_channels=4,shift=True':
        ('window 7x7', 1, 'between windows', 4, 'static', 'nothing', False, 'window 7x7', 8),
    'LocalMlp:share_channels=8,window_size=4':
        ('window 4x4', 1, 'between windows', 8, 'static', 'nothing', False, 'window 4x4', 8),
    'NeighbourhoodAttention:head_channels=4':
        ('sliding 7x7', 1, 'no', 4, 'per position', 'sliding 7x7', False, 'sliding 7x7', 8),
    'NeighbourhoodAttention:head_channels=2,kernel_size=5,relative_position=False':
        ('sliding 5x5', 1, 'no', 2, 'per position', 'sliding 5x5', False, 'sliding 5x5', 8),
    'PyramidAttention:head_channels=4': ('global', 1, 'no', 4, 'per position', 'global', True, 'global', 8),
    'SeparableConvolution': ('sliding 7x7', 1, 'yes', 1, 'static', 'nothing', False, 'sliding 7x7', 8),
    # the only one that leaves the channels apart as a whole
    'SpatialMlp': ('global', 1, 'no', 8, 'static', 'nothing', False, 'global', 1),
    'SqueezeExcitation': ('point', 1, 'yes', 1, 'per image', 'global', False, 'global', 8),
    'WindowAttention:head_channels=4':
        ('window 7x7', 1, 'no', 4, 'per position', 'window 7x7', False, 'window 7x7', 8),
    'WindowAttention:head_channels=1,shift=True':
        ('window 7x7', 1, 'no', 1, 'per position', 'window 7x7', False, 'window 7x7', 8),
    'WindowAttention:head_channels=4,activation=scaling-relu,relative_position=False,window_size=5':
        ('window 5x5', 1, 'no', 4, 'per position', 'window 5x5', False, 'window 5x5', 8),
    'WindowAttention:head_channels=4,activation=layernorm-relu,shift=True':
        ('window 7x7', 1, 'no', 4, 'per position', 'window 7x7', False, 'window 7x7', 8),
}
# fmt: on


def described(place):
    low_rank = bool(kind_of(place).rank)
    return (
        str(place.positions), place.connected, place.shared_positions, place.shared_channels, place.dynamic,
        str(place.made_from), low_rank, str(place.whole_positions), place.whole_connected,
    )  # fmt: skip


DOCS = Path(__file__).resolve().parents[2] / 'docs'


def test_the_page_for_users_has_the_table_of_every_mixer():
    page, table = ((DOCS / name).read_text(encoding='utf-8') for name in ('mixers.md', 'mixers/table.md'))
    rows = [line for line in table.splitlines() if line.startswith('|')]
    assert '\n'.join(rows) in page, 'copy the table of docs/mixers/table.md into docs/mixers.md'
    missing = set(mixers.__all__) - {row.split()[1] for row in rows}
    assert not missing, f'run tools/analysis_tools/probe_mixer.py --all --out docs/mixers: it lacks {missing}'


def test_every_mixer_has_a_documented_place():
    missing = set(mixers.__all__) - {spec.partition(':')[0] for spec in PLACES}
    assert not missing, f'write into PLACES of {__name__} where these stand, and see docs/mixers.md: {missing}'


@pytest.mark.parametrize('spec', PLACES)
def test_a_mixer_stands_where_it_is_documented(spec):
    assert described(probe(subject_of(spec, CHANNELS))) == PLACES[spec]


class Toy(TokenMixer):
    """Its own input weighed by one number a channel, `weigh` of it: the plainest mixer of three steps."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, 1, 1))

    def prepare(self, x):
        return x, x

    def mix(self, values, source):
        return values * self.weigh(source)

    def weigh(self, source):
        return self.weight

    def project(self, mixed):
        return mixed


class WeighedBy(Toy):
    def __init__(self, weigh):
        super().__init__()
        self.own_weigh = weigh

    def weigh(self, source):
        return self.weight + self.own_weigh(source)


class HiddenByZero(Toy):
    """A branch behind a gate that starts with 0, as many do."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))

    def weigh(self, source):
        return self.weight + self.gate * source.mean((2, 3), keepdim=True)


class LeakingWindow(Toy):
    """A depth-wise convolution that also sees, by a millionth, a position a dozen columns away."""

    def mix(self, values, source):
        return F.conv2d(values, self.weight.expand(-1, 7, 7).unsqueeze(1), padding=3, groups=CHANNELS) + (
            1e-6 * values.roll(12, 3)
        )


def toy(module):
    return probe(module_subject('toy', module, CHANNELS))


@pytest.mark.parametrize(
    'weigh, dynamic, made_from, shared',
    [
        (lambda source: 0, 'static', 'nothing', 'yes'),
        (lambda source: source, 'per position', 'point', 'no'),
        (lambda source: source.roll(1, 2), 'per position', 'sliding 1x1', 'no'),
        (lambda source: F.avg_pool2d(source, 5, 1, 2), 'per position', 'sliding 5x5', 'no'),
        (lambda source: source.mean((2, 3), keepdim=True), 'per image', 'global', 'yes'),
        # learned for each position, scaled for the image: the weights are not shared, and made once for all that
        (
            lambda source: source.mean((2, 3), keepdim=True) * torch.linspace(1, 2, source.shape[3]),
            'per image', 'global', 'no',
        ),
        (lambda source: source[:, :, :1, :1], 'per image', 'sliding 1x1', 'yes'),
        (lambda source: source.relu(), 'per position', 'point', 'no'),  # shut for half of the inputs
    ],
)  # fmt: skip
def test_what_the_weights_are_made_from_is_told_apart(weigh, dynamic, made_from, shared):
    place = toy(WeighedBy(weigh))
    assert (str(place.positions), place.dynamic, str(place.made_from), place.shared_positions) == (
        'point', dynamic, made_from, shared,
    )  # fmt: skip


def test_what_an_initial_zero_hides_is_seen():
    assert toy(HiddenByZero()).dynamic == 'per image'


def test_a_weak_connection_out_of_the_window_is_seen():
    place = toy(LeakingWindow())
    assert str(place.positions) != 'sliding 7x7' and place.positions.extent[0] == 7
    assert place.positions.extent[1] > 7


@pytest.mark.parametrize(
    'module, positions, connected, shared',
    [
        (nn.Conv2d(8, 8, 3, padding=1), 'sliding 3x3', 8, 'yes'),
        (nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=2), 'sliding 1x5', 4, 'yes'),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), 'sliding 5x5', 1, 'yes'),
        # as large as the map on which most is measured, and no less local for that
        (nn.Conv2d(8, 8, 31, padding=15, groups=8), 'sliding 31x31', 1, 'yes'),
        (nn.Conv2d(8, 8, 1), 'point', 8, 'yes'),
    ],
)
def test_a_module_of_ones_own_is_probed_as_a_whole(module, positions, connected, shared):
    place = toy(module)
    assert not place.three_steps and place.made_from is None and place.dynamic == 'static'
    assert (str(place.positions), place.connected, place.shared_positions) == (positions, connected, shared)


def test_a_module_that_is_not_linear_is_dynamic_as_a_whole():
    assert toy(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid())).dynamic == 'dynamic'


class GlobalFilter(nn.Module):
    """A convolution as large as the map, around its borders, by Fourier transforms: zeros are not exact here."""

    def __init__(self, size, seen):
        super().__init__()
        self.register_buffer('seen', torch.zeros(size))
        self.seen[:seen, :seen] = 1
        self.weight = nn.Parameter(torch.randn(CHANNELS, *size))

    def forward(self, x):
        kernel = torch.fft.rfft2(self.weight * self.seen)
        return torch.fft.irfft2(torch.fft.rfft2(x) * kernel, x.shape[2:])


def test_rounding_is_no_connection():
    whole = probe(Subject('filter', CHANNELS, lambda size: randomised(GlobalFilter(size, 1000))))
    assert (str(whole.positions), whole.shared_positions, whole.connected) == ('global', 'yes', 1)
    point = probe(Subject('filter', CHANNELS, lambda size: randomised(GlobalFilter(size, 1))))
    assert str(point.positions) == 'point'


class NotLinear(Toy):
    def mix(self, values, source):
        return values.square()


@pytest.mark.parametrize(
    'module, message',
    [
        (NotLinear(), 'toy: mix must be linear in the values'),
        (nn.Conv2d(3, 8, 3), r'toy: a token mixer takes a map of shape \(1, 8, 9, 10\): '),
        (nn.Conv2d(8, 8, 3), r'toy: a token mixer keeps the shape of a map, \(1, 8, 9, 10\), got \(1, 8, 7, 8\)'),
    ],
)
def test_what_is_no_token_mixer_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        toy(module)


@pytest.mark.parametrize(
    'spec, message',
    [
        ('Attention', "unknown mixer 'Attention'"),
        ('GlobalAttention:head_channels', 'expected options like head_channels=8,shift=True'),
        ('GlobalAttention:head_channels=3', 'head_channels must divide'),
        ('GlobalAttention:window_size=7', 'window_size'),
        ('no.such.Module', 'no.such.Module'),
    ],
)
def test_a_mistake_in_a_name_is_one_line(spec, message):
    with pytest.raises(UserError, match=message) as error:
        subject_of(spec, CHANNELS)
    assert '\n' not in str(error.value)


def test_probing_changes_neither_the_module_nor_the_random_numbers_of_others():
    module = nn.Conv2d(8, 8, 3, padding=1)
    before, state = module.weight.clone(), torch.get_rng_state()
    toy(module)
    subject_of('Convolution', CHANNELS).build((5, 6))
    assert torch.equal(module.weight, before) and module.weight.dtype == torch.float32 and module.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('spec', ['DepthwiseConv', 'NeighbourhoodAttention:head_channels=4', 'Convolution'])
def test_weights_at_an_output_are_those_of_its_sum(spec):
    size, position, channel = (9, 11), (2, -1), 5
    mixer = subject_of(spec, CHANNELS).build(size)
    with torch.no_grad():
        values, source = mixer.prepare(torch.randn(1, CHANNELS, *size, dtype=torch.float64))
        constant = mixer.mix(torch.zeros_like(values), source)[0, channel, 2, 10]
        mixed = mixer.mix(values, source)[0, channel, 2, 10]
        weights = weights_at(mixer, values, source, position, channel)
    assert weights.shape == (CHANNELS, *size) and not weights.requires_grad
    torch.testing.assert_close((weights * values[0]).sum() + constant, mixed)
    assert not values.requires_grad


def test_weights_at_takes_one_image():
    mixer = subject_of('DepthwiseConv', CHANNELS).build((4, 4))
    pair = torch.zeros(2, CHANNELS, 4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match='one image'):
        weights_at(mixer, pair, pair, (0, 0), 0)


def test_arrows_lead_to_what_differs_in_one_thing():
    convolution, depthwise, dynamic = Kind(2, 0, 0, 0), Kind(2, 2, 0, 0), Kind(2, 2, 1, 0)
    squeeze, mlp, local_mlp, attention, linformer = (
        Kind(3, 2, 1, 0), Kind(0, 2, 0, 0), Kind(1, 2, 0, 0), Kind(0, 2, 3, 0), Kind(0, 2, 3, 1),
    )  # fmt: skip
    kinds = [convolution, depthwise, dynamic, squeeze, mlp, local_mlp, attention, linformer]
    arrows = {(arrow.start, arrow.end): ARROWS[arrow.change][0] for arrow in arrows_between(kinds)}
    assert arrows == {
        (convolution, depthwise): 'sparser between channels',
        (depthwise, dynamic): 'dynamic weights',
        (dynamic, squeeze): 'sparser between positions',
        (mlp, depthwise): 'sparser between positions',
        (mlp, local_mlp): 'sparser between positions',
        (mlp, attention): 'dynamic weights',
        (attention, linformer): 'low rank',
    }
    # global to point: the sliding window between them takes the arrow
    image_wide = Kind(0, 2, 1, 0)
    assert (image_wide, squeeze) not in {
        (arrow.start, arrow.end) for arrow in arrows_between([*kinds, image_wide])
    }
