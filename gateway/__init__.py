"""`ftq serve`: OpenAI's API and a page over ftq.client. It keeps nothing but what the database has."""
