"""Interleaved timing on an injected clock: no speed is asserted."""

import pytest

from mmdwnet.analysis.benchmark.timing import Bundle, Failure, Plan, Samples, Spread, Stopwatch, measure, speedup


class Machine:
    """A clock that only work moves, and works slower and slower."""

    def __init__(self, drift=0.0):
        self.now, self.drift, self.calls = 0.0, drift, []

    def make(self, name, seconds, fails_at=None):
        def run():
            self.calls.append(name)
            if self.calls.count(name) == fails_at:
                raise RuntimeError(f'{name} broke\nat length')
            self.now += seconds * (1 + self.drift * self.now)

        return lambda: run

    def stopwatch(self):
        return Stopwatch(clock=lambda: self.now)


def test_samples_alternate_and_have_as_many_calls_as_a_burst_needs():
    machine = Machine()
    runs = {'slow': machine.make('slow', 2.0), 'fast': machine.make('fast', 0.3)}
    seen = []
    results = measure(runs, Plan(rounds=3, burst=1.0, warm_up=2), machine.stopwatch(), seen.append)
    assert results == {
        'slow': Samples((pytest.approx(2.0),) * 3, calls=1),
        'fast': Samples((pytest.approx(0.3),) * 3, calls=4),
    }
    assert machine.calls == ['slow'] * 2 + ['fast'] * 4 + (['slow'] + ['fast'] * 4) * 3
    assert seen == ['slow', 'fast'] * 4


def test_a_bundle_is_timed_by_its_calls():
    machine = Machine()
    make = machine.make('ten', 0.3)
    runs = {'ten': lambda: Bundle(make(), 10), 'one': machine.make('one', 0.3)}
    results = measure(runs, Plan(rounds=2, burst=1.0, warm_up=2), machine.stopwatch())
    assert results == {
        'ten': Samples((pytest.approx(0.03),) * 2, calls=40),
        'one': Samples((pytest.approx(0.3),) * 2, calls=4),
    }
    assert machine.calls.count('ten') == machine.calls.count('one')  # a burst is as long


def test_paired_ratios_cancel_the_drift_of_the_machine():
    machine = Machine(drift=0.001)
    runs = {name: machine.make(name, seconds) for name, seconds in (('a', 1.0), ('b', 3.0))}
    results = measure(runs, Plan(rounds=9, burst=0.5), machine.stopwatch())
    a, b = results['a'], results['b']
    assert a.spread.high / a.spread.low > 1.02  # there is a drift
    assert speedup(a, b).median == pytest.approx(3, rel=0.01)
    assert speedup(b, a).median == pytest.approx(1 / 3, rel=0.01)


def test_ratios_are_medians_of_the_rounds_and_not_ratios_of_medians():
    fast, slow = Samples((1.0, 2.0, 4.0), 1), Samples((3.0, 2.0, 8.0), 1)
    assert speedup(fast, slow) == Spread.of((3.0, 1.0, 2.0))
    assert speedup(fast, slow).median == 2
    with pytest.raises(ValueError):
        speedup(fast, Samples((1.0,), 1))


def test_noise_is_the_middle_half():
    spread = Spread.of((1.0, 2.0, 3.0, 4.0, 100.0))
    assert (spread.median, spread.low, spread.high) == (3, 1, 100)
    assert (spread.quarter, spread.three_quarters) == (2, 4)
    assert spread.noise == pytest.approx(2 / 3)
    assert Spread.of((5.0,)).noise == 0


@pytest.mark.parametrize('fails_at', [1, 2, 5])
def test_one_failure_leaves_the_others_be(fails_at):
    machine = Machine()
    runs = {'bad': machine.make('bad', 1.0, fails_at), 'good': machine.make('good', 1.0)}

    def refused():
        raise ImportError('not there')

    runs['unbuilt'] = refused
    results = measure(runs, Plan(rounds=4, burst=0.5), machine.stopwatch())
    assert results['bad'] == Failure('RuntimeError: bad broke')
    assert results['unbuilt'] == Failure('ImportError: not there')
    assert results['good'] == Samples((1.0,) * 4, 1)
    assert list(results) == list(runs)


def test_a_device_is_waited_for_before_and_after_a_burst():
    events = []
    stopwatch = Stopwatch(
        synchronize=lambda: events.append('wait'), clock=lambda: events.append('clock') or float(len(events))
    )
    assert stopwatch.time(lambda: events.append('run'), 2) == 2  # events 2 to 6, over two calls
    assert events == ['wait', 'clock', 'run', 'run', 'wait', 'clock']
