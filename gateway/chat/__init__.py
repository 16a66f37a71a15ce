"""Answers of tuned and base models through warm llama.cpp servers."""
