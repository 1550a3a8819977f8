"""Data: formats to uint8 arrays, sources as configuration, augmentation, and a check of whether data is usable."""

from diffprob.data.check import Report, check
from diffprob.data.combined import Concatenated, Subset, concatenate
from diffprob.data.fields import Fields, Numbers
from diffprob.data.images import Images, Source
from diffprob.data.kinds import open_data
from diffprob.data.sources import Array, Cifar10, Cifar100, Digits, Folder, HuggingFace, Idx, Pages, Svhn
from diffprob.data.train_test_split import SeparateTestSet, TrainTestSplit, split_of

__all__ = [
    "Array", "Cifar10", "Cifar100", "Concatenated", "Digits", "Fields", "Folder", "HuggingFace", "Idx", "Images",
    "Numbers", "Pages", "Report", "SeparateTestSet", "Source", "Subset", "Svhn", "TrainTestSplit", "check",
    "concatenate", "open_data", "split_of",
]  # fmt: skip
