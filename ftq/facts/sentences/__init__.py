"""Plain text into its sentences: where one ends, and where a full stop is only an abbreviation's."""
