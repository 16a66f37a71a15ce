"""Finished models leave the artifacts folder: copied into a folder (pull), or uploaded to the model hub (push)."""
