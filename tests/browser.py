"""A page in a real browser: Debian's chromium, without a window and without the network."""

import contextlib
import shutil

import pytest

FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking']
FLAGS += ['--disable-component-update', '--disable-sync']
WIDTHS = (375, 1280)


@contextlib.contextmanager
def chromium():
    """A browser; skips the test where none is installed."""
    found = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if found is None:
        pytest.skip('no chromium here: apt-get install chromium')
    playwright = pytest.importorskip('playwright.sync_api').sync_playwright
    with playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def look(browser, file, sections):
    """Check that a page stands by itself and fits, on a narrow and a wide screen; return its text."""
    for width in WIDTHS:
        page = browser.new_page(viewport=dict(width=width, height=800))
        said, asked = [], []
        page.on('console', lambda message, said=said: said.append(message.text))
        page.on('pageerror', lambda error, said=said: said.append(str(error)))
        page.on('request', lambda request, asked=asked: asked.append(request.url))
        page.goto(file.as_uri())
        assert not said, said
        others = [url[:80] for url in asked if url != file.as_uri() and not url.startswith('data:')]
        assert not others, others
        # an image that decodes has a width; nothing is wider than the screen
        broken = page.evaluate('[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)')
        assert not broken, broken
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        unseen = [name for name in sections if not page.locator(f'section#{name}').is_visible()]
        assert not unseen, unseen
        outside = page.evaluate(
            """[...document.querySelectorAll('h1, h2, .banner, .tile, figure, .scroll')]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < 0)
            .map(e => e.className + e.textContent.slice(0, 40))"""
        )
        assert not outside, outside
        text = page.inner_text('body')
        page.close()
    return text
