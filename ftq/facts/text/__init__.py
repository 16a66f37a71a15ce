"""What a text is made of besides words: the signs of all scripts, and what stands in it and isn't text."""
