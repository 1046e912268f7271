"""The pages of the documentation: their blocks of code with the marks before them, their links, their names."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('*.md', 'docs/**/*.md', 'docker/*.md')
    for path in ROOT.glob(pattern)
)
RUN = ('bash', 'python')
KINDS = ('needs', 'tested by', 'takes')
COMMENT = re.compile(r'<!-- (?P<kind>[^:]+): (?P<value>.+) -->')
FENCE = re.compile(r'(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)\s*')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: its page, relative to the repository.
        line: of its fence, from 1.
        language: behind the fence, '' where there is none.
        code: what is inside, as it stands.
        kind: what the comment in the line before says first, None without one.
        value: what it says then.
    """

    page: str
    line: int
    language: str
    code: str
    kind: str | None = None
    value: str = ''

    def __str__(self):
        return f'{self.page}:{self.line}'


def blocks_of(page):
    """All fenced blocks of a page, in order."""
    lines, blocks = (ROOT / page).read_text(encoding='utf-8').splitlines(), []
    at = 0
    while at < len(lines):
        fence = FENCE.fullmatch(lines[at])
        at += 1
        if not fence:
            continue
        start, indent = at, len(fence['indent'])
        while lines[at].strip() != fence['ticks']:
            at += 1
        code = ''.join(line[indent:] + '\n' for line in lines[start:at])
        mark = COMMENT.fullmatch(lines[start - 2].strip()) if start > 1 else None
        blocks.append(Block(page, start, fence['language'], code, *(mark.groups() if mark else ())))
        at += 1
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(code):
    """The commands of a bash block, each a list of words, without comments."""
    for line in code.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(re.sub(r'(^|\s)#.*', '', line), posix=True, punctuation_chars=';&|')
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation that goes on in the next line
            words = line.split()
        while words:
            end = next((i for i, word in enumerate(words) if set(word) <= set(';&|')), len(words))
            if words[:end]:
                yield words[:end]
            words = words[end + 1 :]


def prose_of(page):
    """The text of a page without its fenced blocks."""
    kept, inside = [], ''
    for line in (ROOT / page).read_text(encoding='utf-8').splitlines():
        fence = FENCE.fullmatch(line)
        if inside:
            inside = '' if line.strip() == inside else inside
        elif fence:
            inside = fence['ticks']
        else:
            kept.append(line)
    return '\n'.join(kept)
