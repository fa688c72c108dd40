"""A run's figures in TensorBoard, Weights & Biases and MLflow (``track``)."""
