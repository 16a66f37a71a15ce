"""Memory, time and disk of a training run: the formulas, what earlier runs have corrected, and the forecast."""
