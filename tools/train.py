"""Train a classifier, detector or segmentor: `python tools/train.py CONFIG`; the config says which.

Options and their meaning: `python tools/train.py --help`.
"""

try:
    from mmdwnet.engine.launch import train, train_parser
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None

if __name__ == '__main__':
    run_tool(lambda: train(train_parser().parse_args()))
