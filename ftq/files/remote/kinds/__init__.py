"""What differs between the kinds of bucket: how they open, what their errors mean, how large objects go up in parts.

No kind tells whether a request is on its way or lost: `silence.py` finds that out for all of them.

An upload that was cut goes on, in another process and a later attempt too. What is there is asked of the server alone,
and told by checksums. Considered and left: an object for each part (nobody would find a whole model in the bucket);
upload ids noted on this machine (lost with its disk, wrong after a restore); keys made of checksums (a part's folder
would no longer look like the run's); appending (S3 can't). The object appears when its last part is there, and the
manifest is written after it: publishing stays as atomic as for small files.
"""
