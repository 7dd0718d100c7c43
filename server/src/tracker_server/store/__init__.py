"""What the server keeps: metadata, points, console lines and blobs. SQL stands here and nowhere else."""
