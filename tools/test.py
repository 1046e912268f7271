"""Score a checkpoint with the metrics of its config: `python tools/test.py CONFIG CHECKPOINT`.

Options and their meaning: `python tools/test.py --help`.
"""

from mmdwnet.engine.launch import test, test_parser
from mmdwnet.errors import run_tool

if __name__ == '__main__':
    run_tool(lambda: test(test_parser().parse_args()))
