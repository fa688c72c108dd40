"""Download a dataset by name, check it, and turn it into atomic files."""

from recbole_genci.data.download.dataset import check_dataset, find_or_download
from recbole_genci.data.download.sources import known_downloads

__all__ = ["check_dataset", "find_or_download", "known_downloads"]
