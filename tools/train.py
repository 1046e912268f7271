"""Train a classifier, detector or segmentor: `python tools/train.py CONFIG`; the config says which.

Options and their meaning: `python tools/train.py --help`.
"""

from mmdwnet.engine.launch import train, train_parser
from mmdwnet.errors import run_tool

if __name__ == '__main__':
    run_tool(lambda: train(train_parser().parse_args()))
