"""What is asked and told of the whole fleet: notices to people, numbers to Prometheus."""
