"""Export a trained DWNet to ONNX: `python tools/model_converters/export_onnx.py CONFIG CHECKPOINT OUT.onnx`.

A classifier goes in whole (logits; --scores for probabilities); of a detector or segmentor the backbone's maps do.
Batch, height and width are free. The BNs are folded on the way; the metadata of the file holds the names of the
classes, and the mean, deviation and order of the channels that its images are normalised with.
"""

try:
    import argparse

    from mmengine.config import DictAction

    from mmdwnet.engine.exporting import OPSETS, ExportOptions, export_onnx
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None


def main() -> None:
    """Export one model and say how exact it is."""
    parser = argparse.ArgumentParser(description='Export a trained DWNet to ONNX, for every batch and image size.')
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument(
        'checkpoint', metavar='CHECKPOINT', help='its weights, path or URL, deployed already or not'
    )
    parser.add_argument('out', metavar='OUT', help='file to write, a .onnx')
    parser.add_argument('--backbone', action='store_true', help="of a classifier, the backbone's maps alone")
    parser.add_argument('--scores', action='store_true', help='end a classifier with a softmax')
    parser.add_argument(
        '--normalize',
        action='store_true',
        help='take pixels from 0 to 255 and normalise them inside; otherwise images come normalised',
    )
    parser.add_argument(
        '--opset',
        type=int,
        default=OPSETS[0],
        choices=OPSETS,
        metavar='N',
        help=f"version of ONNX's operators, {OPSETS[0]} to {OPSETS[-1]} (default: %(default)s)",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings to override, key=value, as in training'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle CHECKPOINT even if that can run code from it; only for files of people you trust',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    args = parser.parse_args()
    options = ExportOptions(args.backbone, args.scores, args.normalize, args.opset)
    done = export_onnx(
        args.config, args.checkpoint, args.out, options, args.cfg_options, args.trust_checkpoint, args.force
    )
    print(f'{args.out}: {", ".join(done.outputs)}; opset {args.opset}, {done.nodes} nodes')
    for (batch, height, width), difference in done.differences.items():
        print(f'  {batch} x {height} x {width}: differs from torch by {difference:.1e} of the largest output')


if __name__ == '__main__':
    run_tool(main)
