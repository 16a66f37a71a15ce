"""What only web pages have."""
