"""Reference networks, and the way from an import path and a weights file to a model."""

from autoprune.fingerprint import fingerprint
from autoprune.models.cifar_resnet import (
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from autoprune.models.digits import digits_resnet
from autoprune.models.digits_training import train_digits
from autoprune.models.lenet import lenet5
from autoprune.models.lenet_training import train_lenet5
from autoprune.models.loading import load_model
from autoprune.models.vgg import cifar_vgg16_bn
from autoprune.models.weights import load_weights, save_weights

__all__ = [
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "cifar_vgg16_bn",
    "digits_resnet",
    "fingerprint",
    "lenet5",
    "load_model",
    "load_weights",
    "save_weights",
    "train_digits",
    "train_lenet5",
]
