"""From what was uploaded to an ONNX model that was tried: a program that runs in a child, in an environment of its own.

A Keras file or a SavedModel is a program as much as a model is, and its libraries have had holes: it is opened here and
nowhere else. See :mod:`af_inference.sandbox`.
"""
