"""Lay runs side by side on one page: `python tools/analysis_tools/compare_runs.py WORK_DIR WORK_DIR ...`."""

try:
    import argparse
    from pathlib import Path

    from mmdwnet.analysis.run_report.comparing import write_comparison
    from mmdwnet.checkpoints.writing import check_target
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None


def main(args: argparse.Namespace) -> None:
    """Make the page and say where it is."""
    out = check_target(args.out, '.html', force=True)
    runs = write_comparison([Path(folder) for folder in args.runs], out)
    print(f'{out}: {", ".join(run.name for run in runs)}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Compare runs on one page.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory of a training or test')
    parser.add_argument('--out', default='compare.html', help='the page; default compare.html')
    parser.add_argument('--verbose', action='store_true', help='show where an error comes from')
    args = parser.parse_args()
    run_tool(lambda: main(args), args.verbose)
