"""What `tools/predict.py` does: any images and videos through a model of any task, to pictures and a JSON file."""

from .running import predict, predict_parser

__all__ = ['predict', 'predict_parser']
