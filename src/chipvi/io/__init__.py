"""Files in, files out: alignments and bigWig files to counts and signal per region, and back."""
