"""What comes from outside - messages, pictures, recordings, models, settings - made up and damaged at random: whatever it is,
the answer is a result or the one documented kind of error, soon and in little memory.

    python -m pytest test/seg_perception/fuzz                       # the same examples each time, seconds
    FUZZ_EXAMPLES=20000 python -m pytest test/seg_perception/fuzz   # other ones each time, hours

What the long runs found is a test by its name beside the other tests of its reader.
"""
