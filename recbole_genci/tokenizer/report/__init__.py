"""What a person reads of a tokenizer's work."""
