"""Predict images, folders, globs and videos: `python tools/predict.py INPUT... --model NAME [--weights FILE]`.

Options and their meaning: `python tools/predict.py --help`. Exit status 0: all of it is predicted; 1: some of it
could not be read, and is named; 2: nothing is predicted, for the reason in the last line.
"""

try:
    from rich.console import Console

    from mmdwnet.engine.predicting import predict, predict_parser
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None

if __name__ == '__main__':
    args = predict_parser().parse_args()
    run_tool(lambda: predict(args, Console()), args.verbose)
