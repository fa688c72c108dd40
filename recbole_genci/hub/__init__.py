"""Publish a run or semantic IDs on the Hugging Face hub, and get them back."""
