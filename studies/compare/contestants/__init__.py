"""What `peers.py` measures: one file per family of contestants, and the ring that they all meet in."""
