"""Networks: the small ResNet of cifar10-fast, DenseNet-161, their heads and weights; convolutions for CPUs."""
