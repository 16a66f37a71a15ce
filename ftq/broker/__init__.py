"""What brokers are like: what their errors mean. Nothing here connects to one; `ftq/doorbell/` does."""
