"""Labelled rows, their histories, and RecBole's loaders over them."""

from recbole_genci.data.dataset import CTRDataset, create_dataset
from recbole_genci.data.loaders import create_loaders

__all__ = ["CTRDataset", "create_dataset", "create_loaders"]
