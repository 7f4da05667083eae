"""Files that leave the house: ONNX with its manifest, TensorRT engines, OpenVINO models."""
