"""What is asked for: the options of a run, the base models that have an alias, and what shape they are."""
