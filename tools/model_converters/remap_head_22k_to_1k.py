"""Give a 22K classifier the head of 1K: `python tools/model_converters/remap_head_22k_to_1k.py IN MAP OUT`.

The rows are picked from the old head; fine-tuning starts from them. Only the weights are written.
"""

from __future__ import annotations

import argparse

import torch

from mmdwnet.checkpoints.head_remap import read_map, remap_head
from mmdwnet.checkpoints.reading import read_checkpoint, weights_of
from mmdwnet.checkpoints.writing import check_target, write_atomically
from mmdwnet.errors import UserError, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pick the rows of the 1K classes out of the head of a 22K model.')
    parser.add_argument('checkpoint', metavar='IN', help='checkpoint that an in22k config has trained')
    parser.add_argument('map', metavar='MAP', help="row of each class, one per line: Swin's data/map22kto1k.txt")
    parser.add_argument('out', metavar='OUT', help='file to write, the load_from of an in22k-pre config')
    parser.add_argument(
        '--num-classes', type=int, default=1000, metavar='N', help='classes of the new head (default: %(default)s)'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    out = check_target(args.out, '.pth', (args.checkpoint, args.map), force=True)
    rows = read_map(args.map, args.num_classes)
    weights = weights_of(read_checkpoint(args.checkpoint))
    if weights is None:
        raise UserError(f'{args.checkpoint} holds no weights: expected a checkpoint of a classifier')
    content = dict(state_dict=remap_head(weights, rows))
    write_atomically(out, lambda file: torch.save(content, file))
    print(f'{out}: head of {len(rows)} classes')


if __name__ == '__main__':
    run_tool(main)
