"""Training: a config and images with their truth in, a Model folder out. torch lives here, and nothing of a collection.

config.py     what a training is told, from a YAML file
truth.py      masks beside their images: folders, label images, COCO, labelme, CVAT (shapes.py)
pairs.py      what a denoiser or an upscaler is shown of an image
splits.py     which image is learnt from, which chooses, which judges; never two near copies on different sides
"""
