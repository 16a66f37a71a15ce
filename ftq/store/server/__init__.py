"""How a database server is reached: with few connections, also through a pool between."""
