"""The text that the built-in demo model learns from, made up here and nowhere else."""
