"""What ``make setup`` promises: an interrupted set-up is repaired, a bad mmcv wheel never gets in.

Commands (venv, pip, the checks) are replaced by a fake that does to a temporary checkout what the
real ones do; ``make`` itself and the running of commands are the real ones.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / 'tools'))  # the set-up is a script with two helpers beside it

import setup_env  # noqa: E402
import setup_progress  # noqa: E402
import setup_stacks  # noqa: E402
import setup_support  # noqa: E402

OURS = f'{sys.version_info[0]}.{sys.version_info[1]}'
MAINTAINED, ORIGINAL = (setup_stacks.STACKS[name] for name in ('onedl', 'openmmlab'))
WHEEL = '-2.3.6-cp311-cp311-linux_x86_64.whl'


def make_wheel(path, ops=True):
    """A wheel with the names that matter; ``ops=False`` is what pip's isolated build gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as wheel:
        wheel.writestr('mmcv/__init__.py', '')
        if ops:
            wheel.writestr('mmcv/_ext.cpython-311-x86_64-linux-gnu.so', os.urandom(4096))
    return path


class FakeSetup(setup_env.Setup):
    """The steps as they are, on commands that are pretended.

    ``fail_at``: a part of the command that fails. ``ops``: whether a built wheel has ops.
    ``working``: whether the ops of an installed wheel import.
    """

    fail_at = None
    ops = True
    working = True

    def call(self, *command, read=None, env=None):
        command = [str(part) for part in command]
        line = ' '.join(command)
        self.commands.append(line)
        assert not self.stamp.exists(), f'the stamp was there before: {line}'
        if self.fail_at and self.fail_at in line:
            raise setup_env.SetupError('it failed')
        if '-m venv' in line:
            self.make_fake_venv()
        elif setup_env.PROBE in line:
            return ['a warning', json.dumps(['2.11.0+cpu', 'cpu'])]
        elif 'pip wheel' in line:
            make_wheel(self.scratch / (self.stack.wheel + WHEEL), self.ops)
        elif WHEEL in line:
            self.installed_from(command[-1])
        elif 'import nms, RoIAlign' in line and not self.working:
            raise setup_env.SetupError('no ops')
        return []

    def make_fake_venv(self, version=OURS, root=None):
        (self.venv / 'bin').mkdir(parents=True, exist_ok=True)
        self.python.write_text(f'#!/bin/sh\necho {version}\n')
        self.python.chmod(0o755)
        (self.venv / 'bin' / 'pip').write_text(f'#!{root or self.venv}/bin/python\n')
        self.site.mkdir(parents=True, exist_ok=True)

    def installed_from(self, wheel):
        info = self.site / f'{self.stack.wheel}-2.3.6.dist-info'
        info.mkdir(exist_ok=True)
        for name in ('METADATA', 'RECORD'):
            (info / name).write_text('')
        (info / 'direct_url.json').write_text(json.dumps({'url': f'file://{wheel}'}))


@pytest.fixture(params=setup_stacks.STACKS)
def stack(request):
    """Each of the stacks: what is promised holds for both."""
    return setup_stacks.STACKS[request.param]


@pytest.fixture
def make(tmp_path, monkeypatch, stack):
    """A function that makes a set-up of one temporary checkout, as a new call of ``make`` does."""
    root = tmp_path / 'checkout'
    for name in {*MAINTAINED.inputs, *ORIGINAL.inputs}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('onedl-mmcv==2.3.6\nmmcv==2.3.6\n')
    monkeypatch.setattr(setup_env, 'check_compiler', lambda: None)

    def new(stack=stack, **settings):
        console = setup_progress.Console(setup_env.STEPS, io.StringIO())
        setup = FakeSetup(stack, root, tmp_path / 'cache', console)
        setup.commands = []
        for name, value in settings.items():
            setattr(setup, name, value)
        return setup

    return new


def cached(setup):
    return list(setup.cache.glob('*/*.whl'))


def said(setup):
    return setup.console.stream.getvalue()


def builds(setup):
    return [line for line in setup.commands if 'pip wheel' in line]


def test_a_set_up_ends_with_the_stamp_and_the_next_call_has_nothing_to_do(make):
    setup = make()
    assert not setup.is_done()
    setup.run()  # the fake asserts that no command ran with the stamp there
    assert setup.is_done()
    assert make().is_done()
    assert not list(setup.root.glob('.setup-*')), 'the scratch folder was left behind'


@pytest.mark.parametrize(
    'moment',
    [
        '-m venv',
        'setuptools',
        'torchvision',
        ' wheel ',
        WHEEL,
        'import nms',
        '--no-build-isolation -e',
        'import cv2, torch',
    ],
)
def test_a_set_up_that_fails_at_any_step_is_not_done_and_the_next_one_repairs_it(make, moment):
    setup = make(fail_at=moment)
    with pytest.raises(setup_env.SetupError):
        setup.run()
    assert not setup.stamp.exists()
    assert not make().is_done()
    again = make()
    again.run()
    assert again.is_done()


@pytest.mark.parametrize('name', ['setup.py', 'tools/setup_env.py', 'tools/setup_stacks.py'])
def test_a_changed_input_invalidates_the_stamp(make, name):
    make().run()
    with open(make().root / name, 'a') as file:
        file.write('# changed\n')
    assert not make().is_done()


def test_an_input_that_changes_during_the_set_up_leaves_it_not_done(make):
    class EditedMeanwhile(FakeSetup):
        def make_fake_venv(self, *args):
            super().make_fake_venv(*args)
            (self.root / 'setup.py').write_text('# changed\n')

    setup = make()
    setup.__class__ = EditedMeanwhile
    setup.run()
    assert not make().is_done()


def test_each_stack_has_its_own_folder_pins_and_libraries(make):
    setups = [make(MAINTAINED), make(ORIGINAL)]
    for setup in setups:
        setup.run()
    assert [setup.venv.name for setup in setups] == ['.venv', '.venv-openmmlab']
    for setup, extras, name in zip(
        setups, ('.[all,test]', '.[openmmlab,test]'), ('onedl-mmcv', 'mmcv'), strict=True
    ):
        lines = '\n'.join(setup.commands)
        assert f'-e {extras}' in lines
        assert f'--no-binary :all: -w {setup.scratch} {name}==2.3.6' in lines
        assert f'uninstall -y {name}\n' in lines
        assert set(re.findall(r'-c (requirements/\S+)', lines)) == {setup.stack.constraints}
    assert all(setup.is_done() for setup in setups)
    with open(setups[0].root / ORIGINAL.constraints, 'a') as file:
        file.write('# changed\n')
    assert make(MAINTAINED).is_done()
    assert not make(ORIGINAL).is_done()


def test_an_environment_moved_to_the_other_stacks_name_is_made_anew(make):
    make(ORIGINAL).run()
    original, maintained = make(ORIGINAL), make(MAINTAINED)
    original.venv.rename(maintained.venv)
    maintained.stamp.unlink()
    maintained.run()
    assert 'another folder' in said(maintained)


def test_a_moved_checkout_is_set_up_anew(make, tmp_path):
    setup = make()
    setup.run()
    setup.root.rename(tmp_path / 'elsewhere')
    moved = FakeSetup(setup.stack, tmp_path / 'elsewhere', setup.cache, setup.console)
    moved.commands = []
    assert not moved.is_done()
    moved.run()
    assert any('-m venv' in line for line in moved.commands)
    assert moved.is_done()


@pytest.mark.parametrize(
    'version, root, reason',
    [('3.9', None, 'it has Python 3.9'), (OURS, '/elsewhere/.venv', 'another folder')],
)
def test_a_venv_of_another_python_or_place_is_made_anew(make, version, root, reason):
    setup = make()
    setup.make_fake_venv(version, root)
    setup.run()
    assert reason in said(setup)
    assert any('-m venv' in line for line in setup.commands)


def test_a_half_made_venv_is_made_anew(make):
    setup = make()
    (setup.venv / 'lib').mkdir(parents=True)
    (setup.venv / 'lib' / 'half').touch()
    setup.run()
    assert 'it is not complete' in said(setup)
    assert not (setup.venv / 'lib' / 'half').exists()


def test_mmcv_is_built_once_for_all_checkouts(make):
    first = make()
    first.run()
    assert len(builds(first)) == 1
    assert len(cached(first)) == 1
    shutil.rmtree(first.venv)
    second = make()
    second.run()
    assert builds(second) == []
    third = make()
    third.stamp.unlink()
    third.run()
    assert not any('uninstall' in line for line in third.commands), 'a good mmcv was replaced'


def test_a_wheel_without_ops_is_refused_and_not_cached(make):
    setup = make(ops=False)
    with pytest.raises(setup_env.SetupError, match='no compiled ops') as caught:
        setup.run()
    assert cached(setup) == []
    assert 'isolation' in str(caught.value)  # the cause
    assert f'{setup.venv.name}/bin/pip cache remove' in str(caught.value)  # the cure
    assert setup.stack.command in str(caught.value)
    assert not setup.stamp.exists()


@pytest.mark.parametrize('fault', ['truncated', 'corrupt', 'without ops', 'empty'])
def test_a_bad_cached_wheel_is_thrown_away_and_built_again(make, fault):
    make().run()
    (wheel,) = cached(make())
    content = wheel.read_bytes()
    if fault == 'truncated':
        wheel.write_bytes(content[: len(content) // 2])
    elif fault == 'corrupt':
        wheel.write_bytes(content[:1000] + bytes(100) + content[1100:])
    elif fault == 'empty':
        wheel.write_bytes(b'')
    else:
        make_wheel(wheel, ops=False)
    shutil.rmtree(make().venv)
    setup = make()
    setup.run()
    assert f'throwing away the cached {wheel}' in said(setup)
    assert len(builds(setup)) == 1
    assert setup_support.check_wheel(wheel) is None


def test_ops_that_do_not_import_end_with_the_cause_and_leave_no_wheel(make):
    setup = make(working=False)
    with pytest.raises(setup_env.SetupError, match=re.escape('pip cache remove')):
        setup.run()
    assert cached(setup) == []


def test_packages_that_a_killed_pip_left_half_written_are_found(tmp_path):
    def distribution(name, size, record=True):
        info = tmp_path / f'{name}-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('')
        if record:
            rows = [f'{name}/file.py,sha256=x,{size}', f'{name}/c.pyc,,', 'shared.py,sha256=x,' + str(size)]
            (info / 'RECORD').write_text('\n'.join(rows) + '\n')
        (tmp_path / name).mkdir()
        (tmp_path / name / 'file.py').write_text('12345')

    (tmp_path / 'shared.py').write_text('12345')
    distribution('whole', 5)
    distribution('unrecorded', 5, record=False)
    distribution('absent', 5)
    (tmp_path / 'absent' / 'file.py').unlink()
    distribution('short', 6)
    names = [info.name.split('-')[0] for info in setup_support.damaged(tmp_path)]
    assert names == ['absent', 'short', 'unrecorded']  # shared.py has the size that one of them lists


def test_a_damaged_package_is_forgotten_so_that_pip_installs_it_again(make):
    make().run()
    setup = make()
    setup.stamp.unlink()
    info = setup.site / 'half-1.0.dist-info'
    info.mkdir()
    (setup.site / '~orch').mkdir()
    setup.run()
    assert not info.exists()
    assert not (setup.site / '~orch').exists()
    assert 'not complete: half-1.0' in said(setup)


@pytest.mark.parametrize(
    'stack, version, expected',
    [
        (MAINTAINED, (3, 9, 18), 'expected 3.10, 3.11 or 3.12; name one: make setup PYTHON='),
        (MAINTAINED, (3, 13, 0), 'expected 3.10, 3.11 or 3.12'),
        (ORIGINAL, (3, 9, 18), 'expected 3.10 or 3.11; name one: make setup STACK=openmmlab PYTHON='),
        (ORIGINAL, (3, 12, 1), 'expected 3.10 or 3.11'),
    ],
)
def test_an_unsupported_python_gives_one_line(stack, version, expected):
    with pytest.raises(setup_env.SetupError, match=re.escape(expected)) as caught:
        setup_env.check_python(version, stack)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'stack, minor', [(MAINTAINED, 10), (MAINTAINED, 11), (MAINTAINED, 12), (ORIGINAL, 10), (ORIGINAL, 11)]
)
def test_a_supported_python_passes(stack, minor):
    assert setup_env.check_python((3, minor, 1), stack) is None


def stub(path, succeeds):
    path.write_text(f'#!/bin/sh\nexit {0 if succeeds else 1}\n')
    path.chmod(0o755)


@pytest.fixture
def bare_make(tmp_path):
    """``make -n setup`` in a folder with nothing but the Makefile and stubs of python3.*."""
    shutil.copy(REPO / 'Makefile', tmp_path)
    stubs = tmp_path / 'bin'
    stubs.mkdir()

    def run(*arguments, **pythons):
        for name in ('python3', 'python3.12', 'python3.11', 'python3.10'):
            stub(stubs / name, pythons.get(name.replace('.', '_'), False))
        path = f'{stubs}{os.pathsep}{os.environ["PATH"]}'
        env = {**os.environ, 'PATH': path, 'MAKEFLAGS': ''}
        env.pop('PYTHON', None)
        return subprocess.run(['make', *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)

    return run


def test_make_takes_the_first_suitable_python(bare_make):
    assert "python='python3'" in bare_make('-n', 'setup', python3=True, python3_12=True).stdout
    assert "python='python3.11'" in bare_make('-n', 'setup', python3_11=True, python3_10=True).stdout


def test_make_keeps_the_python_of_the_venv(bare_make, tmp_path):
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    stub(tmp_path / '.venv' / 'bin' / 'python', succeeds=True)
    assert "python='.venv/bin/python'" in bare_make('-n', 'setup', python3=True).stdout


def test_make_sets_up_and_tests_the_stack_that_is_named(bare_make):
    printed = bare_make('-n', 'test', python3=True).stdout
    assert 'tools/setup_env.py --stack onedl' in printed
    assert ' .venv/bin/python -m pytest' in printed
    printed = bare_make('-n', 'test', 'STACK=openmmlab', python3_12=True, python3_11=True).stdout
    assert "python='python3.11'" in printed
    assert 'tools/setup_env.py --stack openmmlab' in printed
    assert ' .venv-openmmlab/bin/python -m pytest' in printed


def test_an_unknown_stack_is_told_which_there_are():
    command = [sys.executable, REPO / 'tools' / 'setup_env.py', '--stack', 'openmlab']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert "'openmlab'" in result.stderr
    assert "'onedl', 'openmmlab'" in result.stderr


def test_make_without_a_suitable_python_gives_one_line(bare_make):
    result = bare_make('setup')
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith('error:')]
    assert 'no Python 3.10, 3.11 or 3.12 found' in line


@pytest.fixture
def real(tmp_path):
    """A set-up whose commands are really run."""
    (tmp_path / 'requirements').mkdir()
    (tmp_path / MAINTAINED.constraints).write_text('onedl-mmcv==2.3.6\n')
    return setup_env.Setup(MAINTAINED, tmp_path, tmp_path / 'cache', setup_progress.Console(1, io.StringIO()))


@pytest.mark.parametrize(
    'output, cause',
    [
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        ('error: Python.h: No such file or directory', 'python3-dev'),
        ('The virtual environment was not created: ensurepip is not available', 'python3-venv'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('NewConnectionError: Failed to establish a new connection', 'the package registry was not reached'),
        ('ImportError: libGL.so.1: cannot open shared object file', 'libgl1'),
        ('something else', 'ended with status 3'),
    ],
)
def test_a_failed_command_is_diagnosed_and_shows_its_last_lines(real, output, cause):
    code = 'import sys; [print("line", n) for n in range(50)]; print(sys.argv[1]); sys.exit(3)'
    with pytest.raises(setup_env.SetupError, match=re.escape(cause)) as caught:
        real.call(sys.executable, '-c', code, output)
    assert len(caught.value.tail) == 30
    assert caught.value.tail[-1] == output
    assert 'line 0\n' in real.log.read_text()


def test_an_interrupt_ends_the_running_command(real):
    code = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'
    seen = []

    def interrupt(line):
        seen.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        real.call(sys.executable, '-c', code, read=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent died')
def test_a_killed_set_up_takes_its_command_along(tmp_path):
    code = (
        f'import sys; sys.path.insert(0, {str(REPO / "tools")!r}); from setup_support import run_command; '
        'child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"; '
        'run_command([sys.executable, "-c", child], ".", None, lambda line: print(line, flush=True), lambda: None)'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(50):
        state = Path(f'/proc/{child}/stat')
        if not state.exists() or state.read_text().split(') ')[1][0] == 'Z':
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail('the command outlived the set-up')


def test_the_lock_waits_for_a_living_holder_and_outlives_a_killed_one(tmp_path):
    code = (
        f'import sys, time; sys.path.insert(0, {str(REPO / "tools")!r}); from pathlib import Path; '
        'from setup_support import locked\n'
        'with locked(Path(sys.argv[1]), print): print("held", flush=True); time.sleep(60)'
    )
    path = tmp_path / 'lock'
    with subprocess.Popen([sys.executable, '-c', code, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        owners = []

        def wait(owner):
            owners.append(owner)
            holder.kill()

        with setup_support.locked(path, wait):
            assert owners == [f'process {holder.pid}']


def test_without_a_terminal_the_build_prints_a_line_per_tenth(monkeypatch):
    stream = io.StringIO()
    console = setup_progress.Console(1, stream)
    monkeypatch.setattr(console, 'QUIET_S', 0)
    console.start('mmcv')
    read = setup_progress.ninja_reader(console)
    for n in range(1, 79):
        read(f'  [{n}/78] c++ -MMD -MF file.o')
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 13
    assert 'file 78 of 78' in lines[-1]
