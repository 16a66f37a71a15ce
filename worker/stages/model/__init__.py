"""What a base model is: where it comes from, its tokens and rows, its merge, whether it can become a GGUF."""
