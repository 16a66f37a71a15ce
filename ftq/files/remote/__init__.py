"""What machines without a shared folder share: a bucket (FTQ_ARTIFACTS_URL). Nothing outside this folder knows fsspec.

<url>/<run id>/<part>.<attempt>/<path> are a part's files, <url>/<run id>/<part>.<attempt>.json its manifest, which is
written last. No key is written a second time: which attempt counts is what the database says.
"""
