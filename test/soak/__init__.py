"""The node under three cameras and random faults for as long as one likes: `python -m test.soak`, see docs/soak.md."""
