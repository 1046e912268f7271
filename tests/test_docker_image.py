"""The container for real: `buildah` builds it without a daemon, over a base that `debootstrap` makes.

`make test-docker` runs this, as root on Debian with both programs: half an hour on two idle cores, half of it the
demo, and 30 GB while it runs, of which nothing stays. pip's settings of this account (index, proxy, certificates)
and its compiled mmcv wheels are handed to the build, as copies.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmdwnet'
NETWORK = ('index-url', 'extra-index-url', 'proxy', 'trusted-host', 'default-timeout')  # of pip's settings


class Builder:
    """buildah with everything that it stores below one folder; its commands print to this process's output."""

    def __init__(self, folder):
        self.folder = folder
        self.options = ['--root', folder / 'images', '--runroot', folder / 'run', '--storage-driver', 'vfs']
        self.environment = {**os.environ, 'BUILDAH_ISOLATION': 'chroot', 'TMPDIR': str(folder / 'tmp')}
        (folder / 'tmp').mkdir()

    def __call__(self, *args, **kwargs):
        command = list(map(str, ['buildah', *self.options, *args]))
        return subprocess.run(command, env=self.environment, check=True, text=True, **kwargs)

    def read(self, *args):
        """What a command prints."""
        return self(*args, stdout=subprocess.PIPE).stdout.strip()


@pytest.fixture(scope='module')
def builder():
    lacking = [program for program in ('buildah', 'debootstrap') if shutil.which(program) is None]
    if lacking or os.geteuid() != 0:
        pytest.fail('needs root and `apt-get install buildah debootstrap`: asked for, so not skipped')
    folder = Path(tempfile.mkdtemp(prefix='mmdwnet-docker-'))
    if shutil.disk_usage(folder).free < 30e9:
        folder.rmdir()
        pytest.fail(f'needs 30 GB free in {folder.parent}: name another folder with TMPDIR')
    try:
        yield Builder(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope='module')
def base(builder):
    """The image that stands for debian:12-slim."""
    system, context = builder.folder / 'system', builder.folder / 'base'
    subprocess.run(['debootstrap', '--variant=minbase', 'bookworm', system], check=True)
    context.mkdir()
    leave = ['./dev/*', './var/cache/apt/archives/*.deb', './var/lib/apt/lists/*']
    exclude = [f'--exclude={pattern}' for pattern in leave]
    subprocess.run(['tar', '-C', system, *exclude, '-cf', context / 'base.tar', '.'], check=True)
    (context / 'Dockerfile').write_text('FROM scratch\nADD base.tar /\n')
    builder('build', '--quiet', '--tag', 'base', context)
    shutil.rmtree(system)
    shutil.rmtree(context)
    return 'localhost/base'


@pytest.fixture(scope='module')
def image(builder, base):
    """The image, built by the Dockerfile from this tree as it is."""
    options = ['--format', 'docker', '--file', ROOT / 'docker' / 'Dockerfile', '--build-arg', f'BASE={base}']
    if CACHE.exists():
        wheels = shutil.copytree(CACHE, builder.folder / 'wheels')  # the set-up throws away those that do not fit
        options += ['--volume', f'{wheels}:/var/cache/setup/mmdwnet']
    options += pip_settings(builder.folder / 'pip')
    builder('build', *options, '--tag', 'mmdwnet', ROOT)
    shutil.rmtree(builder.folder / 'tmp')  # the builder's cache
    (builder.folder / 'tmp').mkdir()
    return 'localhost/mmdwnet'


def pip_settings(folder):
    """Options of the build that hand over how pip reaches the registry from here."""
    folder.mkdir()
    listed = subprocess.check_output(['python3', '-m', 'pip', 'config', 'list'], text=True)
    settings = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    lines = [f'{name} = {settings[name]}' for name in NETWORK if 'file:' not in settings.get(name, 'file:')]
    options = []
    if 'cert' in settings:
        shutil.copy(settings['cert'], folder / 'cert.pem')
        lines.append('cert = /mnt/cert.pem')
        options += ['--volume', f'{folder / "cert.pem"}:/mnt/cert.pem:ro']
    (folder / 'pip.conf').write_text('\n'.join(['[global]', *lines, '']))
    return [*options, '--secret', f'id=pip.conf,src={folder / "pip.conf"}']


@pytest.fixture(scope='module')
def config(builder, image):
    """What the image says about itself."""
    return json.loads(builder.read('inspect', '--type', 'image', image))['Docker']['config']


@pytest.fixture
def container(builder, image):
    name = builder.read('from', image)  # fresh, as `docker run` has it: caches in its home belong to who made them
    yield name
    builder('rm', name, stdout=subprocess.DEVNULL)


def test_image_says_what_it_runs(config):
    assert config['Cmd'] == ['make', 'demo']
    assert config['User'] == 'dwnet'
    assert config['WorkingDir'] == '/mmdwnet'
    assert config['Healthcheck']['Test'][0] == 'CMD'


def test_container_is_healthy_and_clean(builder, container, config):
    assert 'is healthy' in builder.read('run', container, '--', *config['Healthcheck']['Test'][1:])
    run = builder.read(
        'run', container, '--', 'sh', '-c', 'id -un; touch data/x work_dirs/x ~/x && echo may write'
    )
    assert run.splitlines() == ['dwnet', 'may write']
    # the set-up is done; code and environment belong to root; nothing of the builder's or of this machine is left,
    # but empty files and folders where something was mounted
    assert builder.read('run', container, '--', 'make', 'setup') == ''
    writable = 'for path in .venv mmdwnet; do test -w $path && echo $path; done; true'
    assert builder.read('run', container, '--', 'sh', '-c', writable) == ''
    mounts = '~root/.cache /var/cache/setup /mnt /etc/pip.conf'
    left = f'find {mounts} /var/lib/apt/lists /mmdwnet/.git /mmdwnet/.setup* -type f -size +0'
    find = f'{left} 2>/dev/null; true'
    assert builder.read('run', '--user', 'root', container, '--', 'sh', '-c', find) == ''


def test_demo_runs_as_whoever_calls_and_leaves_its_results_in_the_mounts(builder, container, config):
    user = 4321  # nobody that the image knows
    mounts = []
    for name in ('data', 'work_dirs'):
        folder = builder.folder / 'mounts' / name
        folder.mkdir(parents=True)
        os.chown(folder, user, user)
        mounts += ['--volume', f'{folder}:/mmdwnet/{name}']
    builder('run', '--user', f'{user}:{user}', *mounts, container, '--', *config['Cmd'])
    demo = builder.folder / 'mounts' / 'work_dirs' / 'demo'
    pictures = sorted(demo.glob('*.png'))
    assert len(pictures) == 3
    assert {path.stat().st_uid for path in pictures} == {user}
