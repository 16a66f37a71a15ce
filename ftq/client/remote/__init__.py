"""A client that goes through `ftq serve`: it reaches neither the database nor the broker nor the artifacts folder."""
