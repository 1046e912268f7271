"""What MkDocs cannot do by itself: pages and files of the repository outside docs/ are part of the site.

Pages link to each other and to configs, tools and tests by relative paths, as GitHub shows them. A link that
leaves docs/ would be dead in the site. Here each such file becomes a page, `repository/<its path>`: Markdown as it
is, all else as code. A link to a file that is not there is left alone, and `mkdocs build --strict` fails on it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# pages of the navigation that live elsewhere; what pages link to is added to them
OUTSIDE = ('CONTRIBUTING.md', 'CHANGELOG.md', 'docker/README.md')
LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)\s#]+)')
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.sbatch': 'bash', '.yml': 'yaml', '.json': 'json'}
FRONT = '---\ntitle: {title}\nsearch:\n  exclude: true\n---\n\n'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to, and what those link to in turn."""
    root, docs = _folders(config)
    waiting = [root / name for name in OUTSIDE if (root / name).is_file()]
    waiting += [path for page in files.documentation_pages() for path in _linked(Path(page.abs_src_path))]
    done = set()
    while waiting:
        path = waiting.pop()
        if path in done or path.is_relative_to(docs) or not path.is_relative_to(root):
            continue
        done.add(path)
        name = path.relative_to(root).as_posix()
        if path.suffix == '.md':
            text = path.read_text(encoding='utf-8')
            waiting += _linked(path)
        else:
            language = LANGUAGES.get(path.suffix, 'text')
            code = path.read_text(encoding='utf-8').rstrip()
            text = f'{FRONT.format(title=path.name)}`{name}`\n\n`````{language}\n{code}\n`````\n'
        files.append(File.generated(config, _place(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between the two places into links between pages of the site."""
    root, docs = _folders(config)
    origin = PurePosixPath(page.file.src_uri)
    outside = origin.parts[0] == 'repository'
    folder = (root / PurePosixPath(*origin.parts[1:]) if outside else docs / origin).parent

    def rewrite(match: re.Match) -> str:
        path = Path(os.path.normpath(folder / match[1]))
        if not path.is_file():
            return match[0]
        if path.is_relative_to(docs):
            target = path.relative_to(docs).as_posix()
        else:
            target = _place(path.relative_to(root).as_posix())
        return os.path.relpath(target, origin.parent.as_posix())

    return LINK.sub(rewrite, markdown)


def _folders(config: MkDocsConfig) -> tuple[Path, Path]:
    return Path(config.config_file_path).resolve().parent, Path(config.docs_dir).resolve()


def _place(name: str) -> str:
    return f'repository/{name}' if name.endswith('.md') else f'repository/{name}.md'


def _linked(page: Path) -> list[Path]:
    paths = [Path(os.path.normpath(page.parent / target)) for target in LINK.findall(page.read_text('utf-8'))]
    return [path for path in paths if path.is_file()]
