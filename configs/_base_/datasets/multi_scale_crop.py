"""The multi-scale crops of the 3x schedule, as a variable for the files beside this one.

One of: (a) the short side resized to 480...800, the long one at most 1333; (b) the short side to
400/500/600, an absolute-range crop of (384, 600), then (a). Same as mmdet's Swin 3x.
"""

resize = dict(
    type='RandomChoiceResize',
    scales=[(side, 1333) for side in range(480, 801, 32)],
    keep_ratio=True,
    _scope_='mmdet',
)
# _scope_: the transforms stay mmdet's when another project inherits the file as `mmdwnet::...`
multi_scale_crop = dict(
    type='RandomChoice',
    transforms=[
        [resize],
        [
            dict(
                type='RandomChoiceResize',
                scales=[(400, 1333), (500, 1333), (600, 1333)],
                keep_ratio=True,
            ),
            dict(
                type='RandomCrop',
                crop_type='absolute_range',
                crop_size=(384, 600),
                allow_negative_crop=True,
            ),
            resize,
        ],
    ],
    _scope_='mmdet',
)
