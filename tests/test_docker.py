"""docker/Dockerfile without building it: what it copies is there, and enough, and the builder is sent no more.

tests/test_docker_image.py builds it.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def instructions():
    """The instructions of the Dockerfile, as (name, rest of the line), continued lines joined."""
    text = re.sub(r'^\s*#.*\n', '', (ROOT / 'docker' / 'Dockerfile').read_text(), flags=re.MULTILINE)
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def stages():
    """The instructions of the two stages, each from its FROM on."""
    found = instructions()
    first, second = (i for i, (name, _) in enumerate(found) if name == 'FROM')
    return found[first:second], found[second:]


def copied(stage):
    """(sources, destination) of every COPY from the context."""
    for name, rest in stage:
        if name == 'COPY' and '--from' not in rest:
            *sources, destination = rest.split()
            yield sources, destination


def is_ignored(path):
    """Whether .dockerignore keeps a path below the root from the builder: it or a folder above it matches."""
    lines = (ROOT / '.dockerignore').read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith('#')]
    assert not any(pattern.startswith('!') for pattern in patterns), 'exceptions are not read here'
    parts = Path(path).parts
    above = ['/'.join(parts[: i + 1]) for i in range(len(parts))]
    return any(re.fullmatch(as_regex(pattern), name) for pattern in patterns for name in above)


def as_regex(pattern):
    """A pattern of .dockerignore: anchored at the root, `**/` is any number of folders, `*` no slash."""
    regex = re.escape(pattern).replace(r'\*\*/', '(.*/)?').replace(r'\*', '[^/]*')
    return regex.replace(r'\[', '[').replace(r'\]', ']')


def git(*args):
    if not (ROOT / '.git').exists():
        pytest.skip('this tree is no git checkout')
    return subprocess.check_output(['git', *args], cwd=ROOT, text=True).splitlines()


@pytest.mark.parametrize(
    'path',
    [
        '.git/config',
        '.venv/bin/python',
        '.venv-openmmlab/bin/python',
        '.setup.log',
        '.setup-x1y2/pip',
        'data/mini/coco/train/1.jpg',
        'work_dirs/demo/last_checkpoint',
        'mmdwnet/.mim/configs',
        'mmdwnet/ops/__pycache__/a.cpython-311.pyc',
        '.pytest_cache/x',
    ],
)
def test_context_leaves_out(path):
    assert is_ignored(path)


def test_context_is_what_git_keeps():
    left_out = git('ls-files', '--others', '--ignored', '--exclude-standard', '--directory')
    assert not [path for path in left_out if not is_ignored(path)]
    assert not [path for path in git('ls-files') if is_ignored(path)]


def test_what_is_copied_exists_and_is_sent():
    for sources, _ in [pair for stage in stages() for pair in copied(stage)]:
        for source in sources:
            found = list(ROOT.glob(source)) if source != '.' else [ROOT / 'Makefile']
            assert found, f'COPY {source}: there is no such file'
            assert not [path for path in found if is_ignored(path.relative_to(ROOT))]


@pytest.fixture(scope='module')
def setup_tree(tmp_path_factory):
    """The tree that the set-up in the Dockerfile finds: its COPYs, and what is made just before `make setup`."""
    root = tmp_path_factory.mktemp('context') / 'mmdwnet'
    root.mkdir()
    stage, _ = stages()
    for sources, destination in copied(stage):
        for path in (path for source in sources for path in ROOT.glob(source)):
            target = root / destination
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    (line,) = (rest for name, rest in stage if name == 'RUN' and 'make setup' in rest)
    before = re.sub(r'--mount=\S+\s*', '', line).replace('make setup', 'make -n setup')
    subprocess.run(before, shell=True, cwd=root, check=True)
    return root


def test_setup_finds_all_that_it_reads(setup_tree):
    # imports its helpers; the stamp is a hash of its inputs, so that code that is copied later does not undo it
    script = (
        'import pathlib, setup_env; root = pathlib.Path.cwd(); stack = setup_env.STACKS[setup_env.DEFAULT];'
        'print(setup_env.Setup(stack, root, root / "cache", None).fingerprint())'
    )
    env = {'PYTHONPATH': str(setup_tree / 'tools'), 'PYTHONDONTWRITEBYTECODE': '1'}
    run = [sys.executable, '-c', script]
    before = subprocess.check_output(run, cwd=setup_tree, env=env, text=True)
    for name in ('configs', 'docker', 'mmdwnet', 'requirements', 'tools'):
        ignore = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(ROOT / name, setup_tree / name, dirs_exist_ok=True, ignore=ignore)
    assert subprocess.check_output(run, cwd=setup_tree, env=env, text=True) == before


def test_editable_install_covers_what_is_copied_later(setup_tree, tmp_path):
    script = 'import sys, setuptools.build_meta as build; build.build_editable(sys.argv[1])'
    run = subprocess.run(
        [sys.executable, '-c', script, str(tmp_path)], cwd=setup_tree, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob('mmdwnet-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        (finder,) = (name for name in archive.namelist() if name.endswith('_finder.py'))
        # the folder, not its files: what is copied into it later is found
        assert f"'mmdwnet': '{setup_tree}/mmdwnet'" in archive.read(finder).decode()
    links = {path.name for path in (setup_tree / 'mmdwnet' / '.mim').iterdir()}
    assert links == {'configs', 'tools', 'model-index.yml'}


def test_image_runs_the_demo_as_a_user_that_is_not_root():
    _, stage = stages()
    names = [name for name, _ in stage]
    last = {name: rest for name, rest in stage}
    assert last['USER'] not in ('root', '0')
    assert 'RUN' not in names[names.index('USER') :], 'what is installed is installed by root'
    assert json.loads(last['CMD']) == ['make', 'demo']
    health = json.loads(last['HEALTHCHECK'].split(' CMD ')[1])
    assert (ROOT / health[-1]).is_file()


def test_layers_that_change_often_come_last():
    setup, final = stages()
    sources = [source for sources, _ in copied(setup) for source in sources]
    assert '.' not in sources and not any(source.startswith(('mmdwnet/ops', 'configs')) for source in sources)
    assert [name for name, rest in final if name == 'COPY'] == ['COPY', 'COPY']
    names = [rest for name, rest in final if name in ('RUN', 'COPY')]
    assert names.index('. .') > next(i for i, rest in enumerate(names) if 'apt-get' in rest)


def test_nothing_in_the_dockerfile_moves_by_itself():
    text = (ROOT / 'docker' / 'Dockerfile').read_text()
    (base,) = re.findall(r'^ARG BASE=(\S+)$', text, re.MULTILINE)
    assert re.fullmatch(r'[\w./-]+:[\w.-]+', base) and not base.endswith(':latest')
    for name, rest in instructions():
        if name == 'RUN' and 'apt-get install' in rest:
            assert '--no-install-recommends' in rest and 'rm -rf /var/lib/apt/lists/*' in rest
    assert not re.search(r'https?://', text), 'registries are those of the builder: --secret id=pip.conf'


def test_health_check_is_healthy_here(run_python):
    run = run_python('docker/healthcheck.py', PYTHONHASHSEED='1')  # a process of its own: everything imports
    assert run.returncode == 0, run.stderr
    assert 'is healthy' in run.stdout
