"""K in code: settings with what their comments say, and the values that examples give them."""
