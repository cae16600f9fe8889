"""The published layouts of checkpoints: how each names its tensors, and where it keeps what tensors cannot tell.

Every module reads one layout into a `Checkpoint` (`base.py`), whose configurations and tensor names are those of
`zeroshot.nets`. `zeroshot.checkpoints` tells the layouts apart.
"""
