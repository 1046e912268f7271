"""The DeiT recipe on ImageNet-1K, total batch 1024: data, schedule and runtime.

Table 4 of Zhou et al., "Interpret Vision Transformers as ConvNets with Dynamic Convolutions": that of Touvron
et al. (ICML 2021) but for 20 epochs of warm-up and gradients clipped at 5. It is Swin's with repeated augmentation
(an epoch has a third of the images, each three times) and an average of the weights, which is what is tested and
saved; its decay, 0.99996, is DeiT's. Neither tokens nor position embeddings decay, as in mmpretrain's configs.
"""

_base_ = [
    './datasets/imagenet_224.py',
    './schedules/imagenet_bs1024_adamw_300e.py',
    './default_runtime_cls.py',
]

train_dataloader = dict(sampler=dict(type='mmpretrain.RepeatAugSampler'))
optim_wrapper = dict(
    type='mmdwnet.AmpOptimWrapper',
    paramwise_cfg=dict(
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.dist_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        }
    ),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmpretrain.EMAHook', momentum=4e-5, priority='ABOVE_NORMAL'),
]
