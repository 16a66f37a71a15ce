"""What a client sees of runs whose files are in a bucket: fetched into FTQ_HOME when somebody looks at them."""
