"""Convert a checkpoint between the official DWNet layout and ours, and between .pth and .safetensors.

usage: python tools/model_converters/convert_checkpoint.py IN OUT [--to official|ours] [--trust-checkpoint]
       [--force]
"""

import argparse

from mmdwnet.checkpoints.converting import convert_checkpoint
from mmdwnet.errors import run_tool


def main() -> None:
    """Convert one file and say what was written."""
    parser = argparse.ArgumentParser(description='Write the weights of a checkpoint in another layout or format.')
    parser.add_argument('source', metavar='IN', help='checkpoint, path or URL, in either layout and format')
    parser.add_argument('target', metavar='OUT', help='file to write; .pth or .safetensors, as its name ends')
    parser.add_argument(
        '--to', choices=['official', 'ours'], default='ours', help='the keys to write; default ours'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle IN even if that can run code from it; only for files of people you trust',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    args = parser.parse_args()
    count = convert_checkpoint(args.source, args.target, args.to, args.trust_checkpoint, args.force)
    print(f'{args.target}: {count} tensors under {"our" if args.to == "ours" else "official"} keys')


if __name__ == '__main__':
    run_tool(main)
