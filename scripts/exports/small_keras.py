"""A small residual network in Keras 2, for any module that has its layers: keras or tf.keras."""

import numpy as np


def network(keras, shape=(32, 32, 3)):
    """Build it, with batch normalization that has seen something."""
    layers = keras.layers

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(
            filters, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)
        return layers.BatchNormalization()(x)

    def depthwise(x, size):
        x = layers.DepthwiseConv2D(size, padding="same", use_bias=False, depthwise_initializer="he_normal")(x)
        return layers.BatchNormalization()(x)

    def relu(x):
        return layers.Activation("relu")(x)

    inputs = layers.Input(shape)
    x = layers.MaxPooling2D(3, 2, "same")(relu(convolution(inputs, 12, 3)))
    y = convolution(relu(depthwise(relu(convolution(x, 24, 3, 2)), 3)), 24, 1)
    x = relu(layers.add([y, convolution(x, 24, 1, 2)]))
    y = convolution(relu(depthwise(relu(convolution(x, 24, 3)), 3)), 24, 1)
    x = relu(layers.add([y, x]))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.models.Model(inputs, layers.Dense(10, activation="softmax", name="predictions")(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            spread = [(1, 0.2), (0, 0.2), (0, 0.2), (1, 0.1)]  # gamma, beta, moving mean, moving variance
            layer.set_weights([np.random.normal(*each, size=x.shape) for each, x in zip(spread, layer.get_weights())])
    return model
