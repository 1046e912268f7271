"""What the pages name is there: links and anchors, pictures, configs, tools and their options, targets of make."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import BLOCKS, PAGES, ROOT, commands_of, prose_of

LINK = re.compile(r'\]\(([^)\s]+)\)|<img [^>]*src="([^"]+)"')
# a file or folder of the repository; what stands in braces, capitals or <> is no name of one
NAME = re.compile(r'(?<![\w./-])(?:configs|tools|tests|mmdwnet|docs|docker|requirements)/[\w./*-]*[\w*/]')
# what a script hands its options on to
PASSED_ON = {
    'tools/dist_train.sh': 'tools/train.py',
    'tools/slurm_train.sh': 'tools/train.py',
    'tools/dist_test.sh': 'tools/test.py',
    'tools/slurm_test.sh': 'tools/test.py',
}
BASH = [block for block in BLOCKS if block.language == 'bash']
# run in one process, because importing torch takes longer than asking all of them
ASK = """
import contextlib, io, json, re, runpy, sys
found = {}
for tool in sys.argv[1:]:
    text, sys.argv = io.StringIO(), [tool, '--help']
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        runpy.run_path(tool, run_name='__main__')
    found[tool] = re.findall(r'(?<![\\w-])--[a-z][\\w-]*', text.getvalue())
print(json.dumps(found))
"""


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    targets = [path or picture for path, picture in LINK.findall(prose_of(page))]
    for target in targets:
        if re.match(r'\w+:', target):
            continue
        path, _, anchor = target.partition('#')
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f'{page} links to {target}, which is not there'
        assert file.resolve().is_relative_to(ROOT), f'{page} links to {target}, outside of the repository'
        assert not anchor or anchor in anchors_of(file), f'{page} links to {target}: no such heading'


@pytest.mark.parametrize('page', PAGES)
def test_files_that_are_named_are_there(page):
    names = set(NAME.findall((ROOT / page).read_text(encoding='utf-8')))
    assert not [name for name in names if not any(ROOT.glob(name.rstrip('/')))]


def test_tools_have_the_options_that_the_pages_give_them():
    used = {}  # tool -> option -> where
    for block in BASH:
        for tool, options in tools_of(block.code):
            for option in options:
                used.setdefault(tool, {}).setdefault(option, str(block))
            used.setdefault(tool, {})
    assert len(used) > 10, 'the pages are not read as they should be'
    missing = [tool for tool in used if not (ROOT / tool).is_file()]
    assert not missing
    asked = [sys.executable, '-c', ASK, *used]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    known = json.loads(done.stdout.splitlines()[-1])
    wrong = [
        f'{where}: {tool} has no {option}'
        for tool, options in used.items()
        for option, where in options.items()
        if option not in known[tool]
    ]
    assert not wrong, wrong


def test_targets_of_make_are_there():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    text = '\n'.join((ROOT / page).read_text(encoding='utf-8') for page in PAGES)
    targets = set(re.findall(r'(?:^|`)make ([a-z][a-z-]+)', text, re.MULTILINE))
    assert {'demo', 'test'} <= targets
    assert not [target for target in targets if not re.search(rf'^{target}:', makefile, re.MULTILINE)]


def test_a_page_never_names_a_place_of_the_machine_it_was_written_on():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding='utf-8')
        assert not re.search(r'(?<![\w.])/(?:work|root|home|tmp)/', text), page


def anchors_of(file):
    """The anchors that GitHub and the site give to the headings of a page."""
    headings = re.findall(r'^#+ (.+)$', prose_of(file.resolve().relative_to(ROOT)), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def tools_of(code):
    """(tool, its options) of every command of a bash block; of a script those of the tool that it starts."""
    for command in commands_of(code):
        at = next((i for i, word in enumerate(command) if re.fullmatch(r'tools/[\w/]+\.(py|sh)', word)), None)
        if at is None:
            continue
        tool = PASSED_ON.get(command[at], command[at])
        if Path(tool).suffix == '.py':
            yield tool, [word.partition('=')[0] for word in command[at + 1 :] if word.startswith('--')]
