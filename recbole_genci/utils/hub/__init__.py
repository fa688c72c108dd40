"""Folders on the Hugging Face hub, ``hf:user/name``, wherever a folder is read."""
