"""Recurrent networks: trained with Keras, scored with ONNX Runtime."""
