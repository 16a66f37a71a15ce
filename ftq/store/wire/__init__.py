"""What a client reads of a store, and how its records travel between `ftq serve` and a client of it."""
