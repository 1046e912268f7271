"""Score a checkpoint with the metrics of its config: `python tools/test.py CONFIG CHECKPOINT`.

Options and their meaning: `python tools/test.py --help`.
"""

try:
    from mmdwnet.engine.launch import test, test_parser
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None

if __name__ == '__main__':
    run_tool(lambda: test(test_parser().parse_args()))
