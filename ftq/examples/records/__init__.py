"""What JSON holds beside its examples: what its values state, and what is wrong with its records."""
