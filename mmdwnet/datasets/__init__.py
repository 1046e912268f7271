"""What the Runner reads: the embedded mini dataset (`mmdwnet.datasets.mini`).

Kept free of imports on purpose: drawing the set needs numpy and pillow alone.
"""
