"""model-<type>.gguf -> answers.jsonl: the finished model answers the run's prompts."""
