"""Make the page of a run again, or of one that died: `python tools/analysis_tools/report.py WORK_DIR`.

A run that ends by itself writes it to WORK_DIR/report.html. This makes it from what is there, at any time.
"""

try:
    import argparse
    from pathlib import Path

    from mmdwnet.analysis.run_report.page import write_report
    from mmdwnet.analysis.run_report.summary import banner
    from mmdwnet.checkpoints.writing import check_target
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None


def main(args: argparse.Namespace) -> None:
    """Make the page and say where it is."""
    out = check_target(args.out, '.html', force=True) if args.out else Path(args.work_dir, 'report.html')
    run = write_report(Path(args.work_dir), out)
    print(f'{out}: {run.name}. {banner(run)["title"]}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Make the page of a run from what it has left.')
    parser.add_argument('work_dir', metavar='WORK_DIR', help='work directory of a training or test')
    parser.add_argument('--out', help='the page; default WORK_DIR/report.html')
    parser.add_argument('--verbose', action='store_true', help='show where an error comes from')
    args = parser.parse_args()
    run_tool(lambda: main(args), args.verbose)
