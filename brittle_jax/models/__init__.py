"""Networks: the small ResNet of cifar10-fast, DenseNet-161, EfficientNet-Lite0; heads, weights, fast convolutions."""
