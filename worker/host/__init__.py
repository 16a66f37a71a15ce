"""What `ftq up` runs on a machine: broker, workers, the demo, and whether they are well."""
