"""What the words in capitals on the pages stand for where their blocks are run: a copy of the checkout."""

import re

STAND_INS = {
    'CONFIG': 'configs/mini/dwnet-nano_cls_mini.py',
    'CHECKPOINT': 'nano.pth',
    'IMAGE': 'data/mini/imagenet/val/star/image.png',
    'OUT.pth': 'out/deployed.pth',
    'OUT.py': 'out/deployed.py',
    'OUT.onnx': 'out/nano.onnx',
    'DIR': 'out',
}
WORD = re.compile(
    r'(?<![\w./-])(' + '|'.join(map(re.escape, sorted(STAND_INS, key=len, reverse=True))) + r')(?![\w.-])'
)


def filled_in(code):
    """A block with its stand-ins put in."""
    return WORD.sub(lambda match: STAND_INS[match[1]], code)
