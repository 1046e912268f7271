"""Fold the BNs of a trained DWNet: `python tools/model_converters/deploy.py CONFIG CHECKPOINT OUT.pth`.

Writes the checkpoint OUT.pth and, beside it, its config OUT.py, for a classifier, detector or segmentor:

    python tools/test.py OUT.py OUT.pth
"""

try:
    import argparse

    from mmengine.config import DictAction

    from mmdwnet.engine.deploying import deploy_checkpoint
    from mmdwnet.errors import run_tool
except ImportError as error:  # what is missing, or of the wrong version, in one line
    raise SystemExit(f'error: {error}') from None


def main() -> None:
    """Deploy one checkpoint and say how exact it is."""
    parser = argparse.ArgumentParser(
        description='Fold the BNs of a trained DWNet into its weights, for inference.'
    )
    parser.add_argument('config', metavar='CONFIG', help='config of the model')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='what it has trained, path or URL')
    parser.add_argument('out', metavar='OUT', help='file to write, a .pth; its config goes beside it, as a .py')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='settings to override, key=value, as in training'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle CHECKPOINT even if that can run code from it; only for files of people you trust',
    )
    parser.add_argument('--force', action='store_true', help='overwrite OUT and its config')
    args = parser.parse_args()
    difference = deploy_checkpoint(
        args.config, args.checkpoint, args.out, args.cfg_options, args.trust_checkpoint, args.force
    )
    config = args.out.removesuffix('.pth') + '.py'
    print(
        f'{args.out}: deployed; on random images its backbone differs by {difference:.1e} of the largest output; '
        f'run it with its config, such as: python tools/test.py {config} {args.out}'
    )


if __name__ == '__main__':
    run_tool(main)
