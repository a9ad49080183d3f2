"""bigWig files to signal per region, and results to the files that genome browsers open."""
