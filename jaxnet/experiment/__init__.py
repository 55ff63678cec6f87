"""What `scripts/train.py` and `scripts/predict.py` are made of. Nothing in the core imports it."""
