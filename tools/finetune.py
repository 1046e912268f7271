"""Fine-tune on a folder of your own data: `python tools/finetune.py DATA_DIR`.

It recognises class folders, COCO JSON, and images with label maps, with or without a val split; writes a short
config, checks it and the data, trains, and tests the best checkpoint. Options: `python tools/finetune.py --help`.
"""

import sys
from pathlib import Path

try:
    from rich.console import Console

    from mmdwnet.engine.finetuning.running import finetune, finetune_parser
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None

if __name__ == '__main__':
    args = finetune_parser().parse_args()
    root = Path(__file__).resolve().parents[1]
    console = Console(file=sys.stdout)  # this one, also while what libraries print is dropped
    run_tool(lambda: finetune(args, root, console), args.verbose)
