"""What a run needs, by bucket, and the smallest change with which it fits."""
