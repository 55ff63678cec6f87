"""What a user waits for: `scripts/train.py` beside scripts that do the same with other packages, as processes."""
