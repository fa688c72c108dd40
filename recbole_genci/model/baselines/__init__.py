"""The models that GenCI is compared with, where RecBole has none or ours differs from its."""
