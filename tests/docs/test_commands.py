"""Every block of bash and Python on every page is run, or says before it which test does or what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import BLOCKS, KINDS, ROOT, RUN, commands_of
from stand_ins import filled_in

TO_RUN = [
    pytest.param(block, id=str(block), marks=[pytest.mark.slow] if block.kind == 'takes' else [])
    for block in BLOCKS
    if block.language in RUN and block.kind not in ('needs', 'tested by')
]
TESTED = [block for block in BLOCKS if block.kind == 'tested by']
FILE_NAME = re.compile(r'# ([\w/-]+\.py)\n')
LOAD = 'import sys; from mmdwnet.engine.config import load_config; load_config(sys.argv[1])'


def test_marks_are_known_and_no_command_hides_in_another_block():
    unknown = [f'{block}: {block.kind}' for block in BLOCKS if block.kind and block.kind not in KINDS]
    assert not unknown, f'expected one of {KINDS} before a block'
    command = re.compile(r'^(?:\$ )?(?:python|pip|make|bash|sbatch|docker) ', re.MULTILINE)
    hidden = [str(b) for b in BLOCKS if b.language not in RUN and command.search(b.code)]
    assert not hidden, 'call these blocks bash'


@pytest.mark.parametrize('block', TO_RUN)
def test_a_block_runs_as_it_stands(block, checkout_of):
    folder = checkout_of(block.page)
    code = filled_in(block.code)
    if block.language == 'bash':
        done = run(folder, 'bash', '-euo', 'pipefail', '-c', code)
    else:
        name = FILE_NAME.match(code)
        path = folder / (name[1] if name else 'block.py')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding='utf-8')
        is_config = re.search(r'^_base_ = ', code, re.MULTILINE)
        done = run(folder, sys.executable, *(['-c', LOAD] if is_config else []), path.name)
    assert done.returncode == 0, f'{block}\n{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}'


@pytest.mark.parametrize('block', TESTED, ids=str)
def test_the_test_of_a_block_is_there_and_names_its_tools(block):
    texts = []
    for target in block.value.split(', '):
        path, _, name = target.partition('::')
        assert (ROOT / path).is_file(), f'{block}: there is no {path}'
        texts.append((ROOT / path).read_text(encoding='utf-8'))
        assert re.search(rf'^ *(def|class) {re.escape(name)}\b', texts[-1], re.MULTILINE), f'{block}: no {name}'
    for command in commands_of(block.code) if block.language == 'bash' else ():
        for tool in (word for word in command if word.startswith('tools/')):
            assert any(Path(tool).name in text for text in texts), f'{block}: {block.value} does not name {tool}'


def run(folder, *command):
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(folder), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
