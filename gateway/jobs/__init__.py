"""Fine-tuning jobs: runs as OpenAI's clients make, follow and end them."""
