"""The site builds without a warning, has every page, and fetches nothing from the network."""

import os
import re
import subprocess
import sys

import pytest
from pages import PAGES, ROOT

import mmdwnet

pytest.importorskip('material', reason='the site is built with mkdocs-material, which is not installed')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder]
    env = {**os.environ, 'NO_MKDOCS_2_WARNING': '1'}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_it(site):
    for page in PAGES:
        if page == 'README.md':  # the front page of the repository; index.md is that of the site
            continue
        name = page.removeprefix('docs/') if page.startswith('docs/') else f'repository/{page}'
        file = site / name.replace('README.md', 'index.md').replace('.md', '.html')
        assert file.is_file(), page


def test_nothing_is_fetched_from_the_network(site):
    fetched = re.compile(r'<(?:script|img|iframe|link(?! rel="canonical"))[^>]+(?:src|href)="(?:https?:)?//[^"]+"')
    for file in site.rglob('*.html'):
        found = fetched.findall(file.read_text(encoding='utf-8'))
        assert not found, (file, found)


def test_a_config_that_a_page_links_to_is_shown(site):
    text = (site / 'model-zoo.html').read_text(encoding='utf-8')
    link = 'repository/configs/imagenet/dwnet-tiny_8xb128_in1k.py.html'
    assert link in text and 'AmpOptimWrapper' in (site / link).read_text(encoding='utf-8')


def test_the_api_has_the_arguments_of_the_code(site):
    text = (site / 'api.html').read_text(encoding='utf-8')
    assert 'window_padding' in text and 'inhomogeneous_depthwise_conv2d' in text


def test_citation_licence_and_changelog_are_of_this_version():
    import yaml

    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['version'] == mmdwnet.__version__
    assert citation['license'] == 'Apache-2.0'
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)
    urls = [reference['url'] for reference in citation['references']]
    assert urls == ['https://arxiv.org/abs/2106.04263', 'https://arxiv.org/abs/2309.10713']
    assert 'Apache License' in (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert f': {mmdwnet.__version__}' in (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
