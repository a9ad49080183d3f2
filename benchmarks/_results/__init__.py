"""What `benchmarks/results.py` is made of: runs in their own processes, a cache of their scores, a page, a figure."""
